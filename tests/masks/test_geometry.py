"""Overlap, bounding box and deepest pixel of binary masks, at their edges too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage
from sklearn.metrics import jaccard_score

from segserve.masks.geometry import bounding_box, deepest_pixel, iou
from segserve.types import Bool

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12))
EMPTY, HALF = np.zeros((4, 6), bool), np.repeat([[True], [True], [False], [False]], 6, axis=1)


def rectangle(y0: int, x0: int, y1: int, x1: int, size: tuple[int, int] = (20, 30)) -> Bool:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize("seed", range(3))
def test_iou_is_scikit_learns_jaccard_score(seed: int) -> None:
    first, second = np.random.default_rng(seed).random((2, 30, 40)) < 0.4
    assert iou(first, second) == pytest.approx(jaccard_score(first.ravel(), second.ravel()))


def test_two_empty_masks_agree_and_one_empty_mask_overlaps_nothing() -> None:
    assert iou(EMPTY, EMPTY) == iou(EMPTY[:0], EMPTY[:0]) == 1
    assert iou(EMPTY, HALF) == iou(HALF, EMPTY) == 0
    assert iou(HALF, HALF) == 1


def test_the_far_edges_of_a_bounding_box_lie_behind_the_last_pixels() -> None:
    assert bounding_box(rectangle(5, 10, 9, 15)) == (10, 5, 15, 9)
    assert bounding_box(np.ones((4, 6), bool)) == (0, 0, 6, 4)


@given(masks)
def test_a_bounding_box_holds_all_ones_and_no_smaller_box_does(mask: Bool) -> None:
    rows, columns = np.nonzero(mask)
    expected = (0, 0, 0, 0)
    if rows.size:
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert bounding_box(mask) == expected


def test_the_deepest_pixel_is_the_middle_of_a_square() -> None:
    assert deepest_pixel(rectangle(5, 10, 10, 15)) == (12, 7)


def test_everything_beyond_the_array_is_outside() -> None:
    assert deepest_pixel(rectangle(0, 0, 5, 9)) == (2, 2)


def test_the_deepest_pixel_of_a_ring_is_on_the_ring() -> None:
    ring = rectangle(2, 2, 18, 18) & ~rectangle(6, 6, 14, 14)
    x, y = deepest_pixel(ring)
    assert ring[y, x]


def test_the_first_of_several_deepest_pixels_in_reading_order() -> None:
    assert deepest_pixel(rectangle(5, 10, 9, 20)) == (11, 6)
    assert deepest_pixel(rectangle(5, 10, 6, 11) | rectangle(3, 12, 4, 13)) == (12, 3)


@given(masks.filter(np.any), st.tuples(*[st.integers(0, 6)] * 4))
def test_no_pixel_is_deeper_wherever_the_mask_lies_in_the_array(
    mask: Bool, rim: tuple[int, int, int, int]
) -> None:
    padded = np.pad(mask, (rim[:2], rim[2:]))
    x, y = deepest_pixel(padded)
    depth = ndimage.distance_transform_edt(np.pad(padded, 1))[1:-1, 1:-1]
    assert (y, x) == np.unravel_index(depth.argmax(), depth.shape)


def test_distances_are_exact() -> None:
    """OpenCV's 5x5 distance transform adds up steps of fixed lengths: it finds the disc (depth 14) deeper."""
    y, x = np.ogrid[:60, :90]
    disc, diamond = (x - 30) ** 2 + (y - 30) ** 2 < 14**2, abs(x - 70) + abs(y - 30) < 20
    assert deepest_pixel(disc) == (30, 30)
    assert deepest_pixel(disc | diamond) == (70, 30)  # depth sqrt(200) = 14.14


def test_an_empty_mask_has_no_deepest_pixel() -> None:
    with pytest.raises(ValueError, match="empty mask"):
        deepest_pixel(EMPTY)
