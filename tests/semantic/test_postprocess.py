"""Post-processing and morphology equal scipy.ndimage's own operators."""

import numpy as np
import pytest
from scipy import ndimage

from segserve.models.semantic_manifest import Postprocess
from segserve.semantic import morphology
from segserve.semantic.postprocess import EIGHT_CONNECTED, postprocess_class_map
from segserve.types import Bool, UInt8


def blobs(seed: int, shape: tuple[int, int] = (120, 150), level: float = 0.02) -> Bool:
    noise = np.random.default_rng(seed).normal(size=shape)
    mask: Bool = ndimage.gaussian_filter(noise, 2) > level
    return mask


def disc(radius: int) -> Bool:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius


def postprocess_mask(mask: Bool, **steps: object) -> Bool:
    return postprocess_class_map(mask.astype(np.uint8), Postprocess.model_validate(steps)) > 0


@pytest.mark.parametrize("radius", [1, 2, 3, 7])
@pytest.mark.parametrize("strip", [16, 1024])
def test_opening_and_closing_are_scipys(monkeypatch: pytest.MonkeyPatch, radius: int, strip: int) -> None:
    monkeypatch.setattr(morphology, "STRIP_ROWS", strip)
    mask, element = blobs(1), disc(radius)
    eroded = ndimage.binary_erosion(mask, element, border_value=1)
    np.testing.assert_array_equal(
        postprocess_mask(mask, opening=radius), ndimage.binary_dilation(eroded, element)
    )
    dilated = ndimage.binary_dilation(mask, element)
    closed = ndimage.binary_erosion(dilated, element, border_value=1)
    np.testing.assert_array_equal(postprocess_mask(mask, closing=radius), closed)


def test_holes_are_filled_as_scipys() -> None:
    for seed in range(5):
        mask = blobs(seed)
        np.testing.assert_array_equal(
            postprocess_mask(mask, fill_holes=True), ndimage.binary_fill_holes(mask)
        )


@pytest.mark.parametrize("min_size", [1, 5, 40, 300, 10**6])
def test_components_below_min_size_are_removed(min_size: int) -> None:
    mask = blobs(2, level=0.1)
    parts, count = ndimage.label(mask, EIGHT_CONNECTED)
    expected = sum((parts == i) * (np.count_nonzero(parts == i) >= min_size) for i in range(1, count + 1))
    np.testing.assert_array_equal(postprocess_mask(mask, min_size=min_size), expected > 0)


def test_keep_largest_keeps_one_component() -> None:
    mask = blobs(3, level=0.1)
    parts, count = ndimage.label(mask, EIGHT_CONNECTED)
    largest = 1 + int(np.argmax(ndimage.sum_labels(mask, parts, range(1, count + 1))))
    np.testing.assert_array_equal(postprocess_mask(mask, keep_largest=True), parts == largest)
    assert not postprocess_mask(mask, keep_largest=True, min_size=10**6).any()


def test_steps_run_in_the_stated_order() -> None:
    mask = blobs(4)
    steps: list[dict[str, object]] = [
        {"opening": 2}, {"closing": 3}, {"fill_holes": True}, {"min_size": 50, "keep_largest": True}
    ]  # fmt: skip
    expected = mask
    for step in steps:
        expected = postprocess_mask(expected, **step)
    together = {name: value for step in steps for name, value in step.items()}
    np.testing.assert_array_equal(postprocess_mask(mask, **together), expected)


def test_by_default_nothing_changes() -> None:
    classes = np.random.default_rng(0).integers(0, 5, (30, 40), dtype=np.uint8)
    assert postprocess_class_map(classes, Postprocess()) is classes
    assert not postprocess_class_map(
        np.zeros((5, 5), np.uint8), Postprocess(fill_holes=True, opening=1, keep_largest=True)
    ).any()


def test_no_class_takes_pixels_from_another() -> None:
    classes: UInt8 = np.zeros((20, 20), np.uint8)
    classes[2:12, 2:12] = 1
    classes[4:8, 4:8] = 0
    classes[5:7, 5:7] = 2  # in the hole of 1, with background between
    expected = classes.copy()
    expected[4:8, 4:8] = 1
    expected[5:7, 5:7] = 2
    np.testing.assert_array_equal(postprocess_class_map(classes, Postprocess(fill_holes=True)), expected)


def test_each_class_is_processed_alone() -> None:
    classes = np.where(blobs(5), 1, np.where(blobs(6), 2, 0)).astype(np.uint8)
    result = postprocess_class_map(classes, Postprocess(min_size=60))
    for value in (1, 2):
        np.testing.assert_array_equal(result == value, postprocess_mask(classes == value, min_size=60))


def test_pixels_that_other_classes_keep_do_not_count_for_the_size() -> None:
    ring = np.zeros((20, 20), np.uint8)
    ring[4:16, 4:16] = 1
    ring[5:15, 5:15] = 2  # 44 pixels of 1 around 100 of 2
    result = postprocess_class_map(ring, Postprocess(fill_holes=True, min_size=60))
    assert set(np.unique(result)) == {0, 2}
    apart = np.zeros((10, 22), np.uint8)
    apart[:, :10], apart[:, 10:12], apart[:8, 12:] = 1, 2, 1
    result = postprocess_class_map(apart, Postprocess(closing=4, keep_largest=True))
    assert not (result[:, 12:] == 1).any()
    assert (result[:, :10] == 1).all()
