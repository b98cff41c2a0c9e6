"""Semantic segmentation of unusual images, and its limits of memory and work."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from segserve.errors import TooLarge
from segserve.semantic import options as semantic_options
from segserve.semantic.class_map import ClassArea
from segserve.semantic.options import SemanticOptions, check_options
from segserve.semantic.segmenter import segment_image
from segserve.semantic.sliding_window import count_runs
from segserve.semantic.tta import Flips
from segserve.timing import Timings
from segserve.types import Float32, Size
from tests.semantic.bundles import Channels, manifest, opened

THRESHOLDS = np.full(3, 0.5, np.float32)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (65, 64)])
@pytest.mark.parametrize("method", ["percentile", "standardise", "fixed"])
def test_black_images_of_any_size_have_no_objects(tmp_path: Path, size: tuple[int, int], method: str) -> None:
    model = opened(tmp_path, Channels(), input={"normalise": {"method": method}})
    black = np.zeros((*size, 3), np.uint8)
    result = segment_image(
        "", black, model, SemanticOptions(probabilities=True), (64, 64), THRESHOLDS, Timings()
    )
    assert result.values.shape == size
    assert not result.values.any()
    assert result.probabilities is not None
    assert np.isfinite(result.probabilities).all()
    assert result.classes[0] == ClassArea(1, "red", 0, 0.0)
    assert result.to_image_objects().objects == []


def test_requests_that_take_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic_options, "MAX_BAND_VALUES", 3 * 64 * (1000 + 64))
    monkeypatch.setattr(semantic_options, "MAX_PROBABILITY_VALUES", 3 * 1000 * 1000)
    size = Size(1000, 1000)
    assert check_options(SemanticOptions(), manifest(), size) == (64, 64)
    assert check_options(SemanticOptions(probabilities=True), manifest(), size) == (64, 64)
    for options, large, field in (
        (SemanticOptions(), Size(1000, 1001), "tile"),
        (SemanticOptions(tile=(128, 64)), size, "tile"),
        (SemanticOptions(probabilities=True), Size(1001, 1000), "format"),
    ):
        with pytest.raises(TooLarge) as caught:
            check_options(options, manifest(), large)
        assert caught.value.field == field
        assert caught.value.remedy


def test_the_work_of_one_request_is_bounded() -> None:
    size = Size(4096, 4096)
    refused = (
        (SemanticOptions(tile=(16, 16), overlap=0.75), "runs of the network"),
        (SemanticOptions(tile=(64, 64), overlap=0.5, tta_flips=Flips.BOTH), "runs of the network"),
        (SemanticOptions(tile=(4096, 4096)), "memory"),
    )
    for options, message in refused:
        with pytest.raises(TooLarge, match=message) as caught:
            check_options(options, manifest(), size)
        assert caught.value.field == "tile"
    check_options(SemanticOptions(tile=(512, 512), overlap=0.5, tta_flips=Flips.BOTH), manifest(), size)


@pytest.mark.parametrize("flips", Flips)
@pytest.mark.parametrize("size", [(64, 64), (65, 200), (1, 1000)])
def test_the_number_of_runs_is_counted_exactly(tmp_path: Path, size: tuple[int, int], flips: Flips) -> None:
    model, runs = opened(tmp_path, Channels()), 0
    run = model.run

    def counted(tiles: Float32) -> Float32:
        nonlocal runs
        runs += len(tiles)
        return run(tiles)

    model.run = counted  # type: ignore[method-assign]
    options = SemanticOptions(overlap=0.25, tta_flips=flips)
    segment_image("", np.zeros((*size, 3), np.uint8), model, options, (64, 64), THRESHOLDS, Timings())
    assert runs == count_runs(Size(*size), (64, 64), 0.25, model.manifest, flips)
