"""Class maps: thresholds by class, argmax, background."""

import numpy as np
import pytest

pytest.importorskip("torch")

from segserve.errors import BadInput
from segserve.semantic.class_map import classify_pixels, list_foreground_classes, resolve_thresholds
from tests.semantic.bundles import manifest

PROBABILITIES = np.array([[0.9, 0.6, 0.4, 0.2, 0.5], [0.8, 0.7, 0.3, 0.1, 0.5]], np.float32)[
    :, None
]  # [2 classes, 1, 5 pixels]


def test_a_pixel_gets_the_most_probable_class_that_reaches_its_threshold() -> None:
    for thresholds, classes in (
        ((0.5, 0.5), [1, 2, 0, 0, 1]),
        ((0.3, 0.5), [1, 2, 1, 0, 1]),
        ((0.95, 0.5), [2, 2, 0, 0, 2]),
        ((0.0, 0.0), [1, 2, 1, 1, 1]),
    ):
        assert classify_pixels(PROBABILITIES, np.array(thresholds, np.float32), None).tolist() == [classes]


def test_the_background_competes_and_is_zero_whichever_channel_it_has() -> None:
    three = np.concatenate([PROBABILITIES, np.full((1, 1, 5), 0.45, np.float32)])
    thresholds = np.array([0.0, 0.0, 0.0], np.float32)
    assert classify_pixels(three, thresholds, 2).tolist() == [[1, 2, 0, 0, 1]]
    assert classify_pixels(three[[2, 0, 1]], thresholds, 0).tolist() == [[1, 2, 0, 0, 1]]
    assert classify_pixels(three[[0, 2, 1]], thresholds, 1).tolist() == [[1, 2, 0, 0, 1]]
    assert list_foreground_classes(manifest(background=1)) == ("red", "blue")


def test_softmax_without_thresholds_is_argmax() -> None:
    values = np.random.default_rng(0).random((7, 20, 30), dtype=np.float32)
    softmax = manifest(classes=tuple("abcdefg"), background=0, activation="softmax")
    classes = classify_pixels(values, resolve_thresholds(softmax, None), 0)
    np.testing.assert_array_equal(classes, values.argmax(axis=0))


def test_the_request_overrides_the_manifest_and_the_manifest_the_default() -> None:
    assert resolve_thresholds(manifest(), None).tolist() == [0.5, 0.5, 0.5]
    assert resolve_thresholds(manifest(activation="softmax"), None).tolist() == [0, 0, 0]
    by_class = manifest(thresholds=(0.25, 0.5, 0.75), background=2)
    assert resolve_thresholds(by_class, None).tolist() == [0.25, 0.5, 0]
    assert resolve_thresholds(by_class, 1.0).tolist() == [1, 1, 0]
    assert resolve_thresholds(by_class, {"green": 1.0}).tolist() == [0.25, 1, 0]


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no class 'purple'.*red, green, blue") as caught:
        resolve_thresholds(manifest(), {"purple": 0.5})
    assert caught.value.field == "threshold"
    with pytest.raises(BadInput, match="no class 'blue'"):
        resolve_thresholds(manifest(background=2), {"blue": 0.5})
