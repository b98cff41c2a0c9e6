"""A crop holds the same mask as the one it was cut from."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from segserve.masks import crop as crops
from segserve.types import Bool, Crop, Size

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(masks)
def test_from_mask_and_back(mask: Bool) -> None:
    assert np.array_equal(crops.to_mask(crops.from_mask(mask)), mask)


@given(masks)
def test_area_and_box_are_those_of_the_mask(mask: Bool) -> None:
    crop = crops.from_mask(mask)
    rows, columns = np.nonzero(mask)
    expected = (0, 0, 0, 0)
    if rows.size:
        expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert crops.area(crop) == mask.sum()
    assert crops.bounding_box(crop) == expected


@given(masks)
def test_from_mask_keeps_no_more_than_the_bounding_box(mask: Bool) -> None:
    crop = crops.from_mask(mask)
    x0, y0, x1, y1 = crops.bounding_box(crop)
    assert (crop.x, crop.y, *crop.pixels.shape) == (x0, y0, y1 - y0, x1 - x0)


@given(masks, st.integers(0, 5), st.integers(0, 5))
def test_trim_keeps_the_mask(pixels: Bool, x: int, y: int) -> None:
    loose = Crop(pixels, x, y, Size(20, 20))
    assert np.array_equal(crops.to_mask(crops.trim_crop(loose)), crops.to_mask(loose))


def test_box_of_a_loose_crop_is_tight() -> None:
    pixels = np.zeros((5, 6), np.bool_)
    pixels[2, 3] = True
    assert crops.bounding_box(Crop(pixels, 10, 20, Size(50, 40))) == (13, 22, 14, 23)


def test_empty_mask_is_no_pixels_at_the_origin() -> None:
    crop = crops.from_mask(np.zeros((4, 5), np.bool_))
    assert (crop.pixels.shape, crop.x, crop.y, crop.size) == ((0, 0), 0, 0, Size(4, 5))


def test_the_window_around_a_crop_ends_with_the_image() -> None:
    mask = np.zeros((6, 9), np.bool_)
    mask[1:3, 5:8] = True
    window, x, y = crops.cut_window(crops.from_mask(mask), 2)
    assert (x, y) == (3, 0)
    assert np.array_equal(window, mask[0:5, 3:9])
