"""The dense CRF, where its package is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pydensecrf")

from segserve.errors import BadInput, TooLarge
from segserve.models.semantic_manifest import Crf, Postprocess
from segserve.semantic import crf
from segserve.semantic.class_map import decide
from segserve.semantic.crf import refine
from segserve.semantic.postprocess import tidy
from segserve.semantic.preprocess import prepare
from segserve.semantic.segmenter import SemanticOptions, check, classify
from segserve.timing import Timings
from segserve.types import Size
from tests.semantic.bundles import Channels, manifest, opened

HALF = np.zeros((40, 60), np.bool_)
HALF[:, 30:] = True
IMAGE = np.where(HALF[..., None], np.uint8([200, 180, 40]), np.uint8([20, 60, 90]))


def noisy() -> Any:
    """Probabilities of the bright half, wrong in a tenth of the pixels."""
    wrong = np.random.default_rng(0).random(HALF.shape) < 0.1
    return np.where(HALF ^ wrong, 0.7, 0.3).astype(np.float32)


@pytest.mark.parametrize("exclusive", [True, False])
def test_pixels_that_look_alike_get_the_same_class(exclusive: bool) -> None:
    p = noisy()
    assert ((p > 0.5) == HALF).mean() < 0.95
    given = np.stack([1 - p, p]) if exclusive else p[None]
    found = refine(given, IMAGE, Crf(), exclusive=exclusive)
    assert found.shape == given.shape
    np.testing.assert_array_equal(found[-1] > 0.5, HALF)
    if exclusive:
        np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_it_is_a_step_of_the_whole(tmp_path: Path) -> None:
    model = opened(tmp_path, Channels())
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    least = np.full(3, 0.5, np.float32)
    options = SemanticOptions(postprocess={"crf": {"iterations": 3}, "min_size": 2})
    found = classify("", image, model, options, (64, 64), least, Timings()).values
    probabilities = model.probabilities(prepare(image, model.manifest.input).cut(0, 0, 40, 56)[None])[0]
    refined = decide(refine(probabilities, image, Crf(iterations=3), exclusive=False), least, None)
    np.testing.assert_array_equal(found, tidy(refined, Postprocess(min_size=2)))
    assert (found != decide(probabilities, least, None)).any()


def test_what_it_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    options = SemanticOptions(postprocess={"crf": {}})
    with pytest.raises(TooLarge) as caught:
        check(options, manifest(), Size(4096, 4096))
    assert caught.value.field == "postprocess.crf"
    monkeypatch.setattr(crf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"segserve\[crf\]"):
        check(options, manifest(), Size(40, 40))
