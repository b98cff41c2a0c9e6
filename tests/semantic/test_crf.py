"""The dense CRF, if pydensecrf2 is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip(
    "pydensecrf", reason="pydensecrf2 is missing: pip install pydensecrf2 (it needs a C++ compiler)"
)

from segserve.errors import BadInput, TooLarge
from segserve.models.semantic_manifest import Crf, Postprocess
from segserve.semantic import crf
from segserve.semantic.class_map import classify_pixels
from segserve.semantic.crf import refine_by_crf
from segserve.semantic.options import SemanticOptions, check_options
from segserve.semantic.postprocess import postprocess_class_map
from segserve.semantic.preprocess import prepare_input
from segserve.semantic.segmenter import segment_image
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
def test_pixels_of_a_like_colour_get_the_same_class(exclusive: bool) -> None:
    probabilities = noisy()
    assert ((probabilities > 0.5) == HALF).mean() < 0.95
    channels = np.stack([1 - probabilities, probabilities]) if exclusive else probabilities[None]
    refined = refine_by_crf(channels, IMAGE, Crf(), exclusive=exclusive)
    assert refined.shape == channels.shape
    np.testing.assert_array_equal(refined[-1] > 0.5, HALF)
    if exclusive:
        np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)


def test_the_crf_is_a_step_before_thresholds_and_postprocessing(tmp_path: Path) -> None:
    model = opened(tmp_path, Channels())
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    thresholds = np.full(3, 0.5, np.float32)
    options = SemanticOptions(postprocess={"crf": {"iterations": 3}, "min_size": 2})
    classes = segment_image("", image, model, options, (64, 64), thresholds, Timings()).values
    tile = prepare_input(image, model.manifest.input).read_tile(0, 0, 40, 56)
    probabilities = model.predict_probabilities(tile[None])[0]
    refined = refine_by_crf(probabilities, image, Crf(iterations=3), exclusive=False)
    refined_classes = classify_pixels(refined, thresholds, None)
    np.testing.assert_array_equal(classes, postprocess_class_map(refined_classes, Postprocess(min_size=2)))
    assert (classes != classify_pixels(probabilities, thresholds, None)).any()


def test_images_too_large_and_a_missing_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    options = SemanticOptions(postprocess={"crf": {}})
    with pytest.raises(TooLarge) as caught:
        check_options(options, manifest(), Size(4096, 4096))
    assert caught.value.field == "postprocess.crf"
    monkeypatch.setattr(crf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"segserve\[crf\]"):
        check_options(options, manifest(), Size(40, 40))
