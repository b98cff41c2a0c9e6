"""Thresholds, by class."""

import numpy as np
import pytest

pytest.importorskip("torch")

from segserve.errors import BadInput
from segserve.semantic.class_map import decide, named, thresholds
from tests.semantic.bundles import manifest

P = np.array([[0.9, 0.6, 0.4, 0.2, 0.5], [0.8, 0.7, 0.3, 0.1, 0.5]], np.float32)[
    :, None
]  # 5 pixels, 2 classes


def test_the_most_probable_of_those_that_reach_their_thresholds() -> None:
    assert decide(P, np.array([0.5, 0.5], np.float32), None).tolist() == [[1, 2, 0, 0, 1]]
    assert decide(P, np.array([0.3, 0.5], np.float32), None).tolist() == [[1, 2, 1, 0, 1]]
    assert decide(P, np.array([0.95, 0.5], np.float32), None).tolist() == [[2, 2, 0, 0, 2]]
    assert decide(P, np.array([0.0, 0.0], np.float32), None).tolist() == [[1, 2, 1, 1, 1]]


def test_the_background_competes_and_is_zero_wherever_its_channel_is() -> None:
    three = np.concatenate([P, np.full((1, 1, 5), 0.45, np.float32)])
    least = np.array([0.0, 0.0, 0.0], np.float32)
    assert decide(three, least, 2).tolist() == [[1, 2, 0, 0, 1]]
    assert decide(three[[2, 0, 1]], least, 0).tolist() == [[1, 2, 0, 0, 1]]
    assert decide(three[[0, 2, 1]], least, 1).tolist() == [[1, 2, 0, 0, 1]]
    assert named(manifest(background=1)) == ("red", "blue")


def test_softmax_without_thresholds_is_argmax() -> None:
    values = np.random.default_rng(0).random((7, 20, 30), dtype=np.float32)
    described = manifest(classes=tuple("abcdefg"), background=0, activation="softmax")
    found = decide(values, thresholds(described, None), 0)
    np.testing.assert_array_equal(found, values.argmax(axis=0))


def test_what_is_asked_for_wins_over_the_manifest_and_that_over_the_default() -> None:
    assert thresholds(manifest(), None).tolist() == [0.5, 0.5, 0.5]
    assert thresholds(manifest(activation="softmax"), None).tolist() == [0, 0, 0]
    described = manifest(thresholds=(0.25, 0.5, 0.75), background=2)
    assert thresholds(described, None).tolist() == [0.25, 0.5, 0]
    assert thresholds(described, 1.0).tolist() == [1, 1, 0]
    assert thresholds(described, {"green": 1.0}).tolist() == [0.25, 1, 0]


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no class 'purple'.*red, green, blue") as caught:
        thresholds(manifest(), {"purple": 0.5})
    assert caught.value.field == "threshold"
    with pytest.raises(BadInput, match="no class 'blue'"):
        thresholds(manifest(background=2), {"blue": 0.5})
