"""The whole of it on images at the edges of what there is, and the limits of memory."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from segserve.errors import TooLarge
from segserve.semantic import segmenter
from segserve.semantic.segmenter import ClassArea, SemanticOptions, check, classify
from segserve.semantic.sliding_window import Flips, runs_of
from segserve.timing import Timings
from segserve.types import Float32, Size
from tests.semantic.bundles import Channels, manifest, opened

LEAST = np.full(3, 0.5, np.float32)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (65, 64)])
@pytest.mark.parametrize("method", ["percentile", "standardise", "fixed"])
def test_images_of_one_colour_and_of_any_size(tmp_path: Path, size: tuple[int, int], method: str) -> None:
    model = opened(tmp_path, Channels(), input={"normalise": {"method": method}})
    black = np.zeros((*size, 3), np.uint8)
    found = classify("", black, model, SemanticOptions(probabilities=True), (64, 64), LEAST, Timings())
    assert found.values.shape == size
    assert not found.values.any()
    assert found.probabilities is not None
    assert np.isfinite(found.probabilities).all()
    assert found.classes[0] == ClassArea(1, "red", 0, 0.0)
    assert found.found().objects == []


def test_what_would_take_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "BAND_VALUES", 3 * 64 * (1000 + 64))
    monkeypatch.setattr(segmenter, "PROBABILITY_VALUES", 3 * 1000 * 1000)
    size = Size(1000, 1000)
    assert check(SemanticOptions(), manifest(), size) == (64, 64)
    assert check(SemanticOptions(probabilities=True), manifest(), size) == (64, 64)
    for options, large, field in (
        (SemanticOptions(), Size(1000, 1001), "tile"),
        (SemanticOptions(tile=(128, 64)), size, "tile"),
        (SemanticOptions(probabilities=True), Size(1001, 1000), "format"),
    ):
        with pytest.raises(TooLarge) as caught:
            check(options, manifest(), large)
        assert caught.value.field == field
        assert caught.value.remedy


def test_the_work_of_one_request_is_bounded() -> None:
    size = Size(4096, 4096)
    refused = (
        (SemanticOptions(tile=(16, 16), overlap=0.75), "runs of the network"),
        (SemanticOptions(tile=(64, 64), overlap=0.5, tta_flips=Flips.BOTH), "runs of the network"),
        (SemanticOptions(tile=(4096, 4096)), "memory"),
    )
    for options, said in refused:
        with pytest.raises(TooLarge, match=said) as caught:
            check(options, manifest(), size)
        assert caught.value.field == "tile"
    check(SemanticOptions(tile=(512, 512), overlap=0.5, tta_flips=Flips.BOTH), manifest(), size)


@pytest.mark.parametrize("flips", Flips)
@pytest.mark.parametrize("size", [(64, 64), (65, 200), (1, 1000)])
def test_runs_are_counted_as_they_are_made(tmp_path: Path, size: tuple[int, int], flips: Flips) -> None:
    model, runs = opened(tmp_path, Channels()), 0
    run = model.run

    def counted(tiles: Float32) -> Float32:
        nonlocal runs
        runs += len(tiles)
        return run(tiles)

    model.run = counted  # type: ignore[method-assign]
    options = SemanticOptions(overlap=0.25, tta_flips=flips)
    classify("", np.zeros((*size, 3), np.uint8), model, options, (64, 64), LEAST, Timings())
    assert runs == runs_of(Size(*size), (64, 64), 0.25, model.manifest, flips)
