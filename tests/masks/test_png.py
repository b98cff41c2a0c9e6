"""Another reader finds the mask in the PNG."""

from io import BytesIO

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from segserve.masks import crop as crops
from segserve.masks import png
from segserve.types import Bool, Crop, Size

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=20))


def read(data: bytes) -> Bool:
    with Image.open(BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "1")
        image.load()
        return np.array(image)


@given(masks)
def test_pillow_reads_the_mask(mask: Bool) -> None:
    assert np.array_equal(read(png.encode(crops.from_mask(mask))), mask)


@given(masks, st.integers(0, 20), st.integers(0, 20), st.integers(0, 9), st.integers(0, 9))
def test_a_crop_lies_where_it_belongs(pixels: Bool, x: int, y: int, right: int, below: int) -> None:
    height, width = pixels.shape
    crop = Crop(pixels, x, y, Size(y + height + below, x + width + right))
    assert np.array_equal(read(png.encode(crop)), crops.to_mask(crop))


def test_an_image_without_ones() -> None:
    assert not read(png.encode(crops.empty_crop(Size(13, 9)))).any()


def test_a_plain_mask_takes_little() -> None:
    mask = np.zeros((1000, 1000), np.bool_)
    mask[200:700, 300:800] = True
    assert len(png.encode(crops.from_mask(mask))) < 0.02 * mask.size / 8
