"""A mask in blocks is the mask of its pixels: area, box and run lengths are the same, without a pixel written."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segserve.masks import crop as crops
from segserve.masks import rle, upscale
from segserve.masks.block_crop import BlockCrop
from segserve.masks.upscale import LogitsGeometry, upscale_mask
from segserve.types import Float32, Size

# Whole blocks, and parts of one at the right and at the foot.
sides = st.sampled_from([1, 63, 64, 65, 128, 200, 320])


@contextmanager
def blocks_from(count: int) -> Iterator[None]:
    """Keep masks in blocks where they have more blocks than `count`."""
    with patch.object(upscale, "MAX_PIXEL_BLOCKS", count), patch.object(upscale, "MAX_EDGE_SHARE", 1):
        yield


def draw_logits(seed: int, low: int) -> Float32:
    """Draw rectangles of ones, some of full height or width, and now and then noise."""
    rng = np.random.default_rng(seed)
    logits = np.full((low, low), -1, np.float32)
    for _ in range(rng.integers(0, 5)):
        y, x = np.sort(rng.integers(0, low + 1, 2)), np.sort(rng.integers(0, low + 1, 2))
        rows = slice(None) if rng.random() < 0.4 else slice(*y)
        columns = slice(None) if rng.random() < 0.4 else slice(*x)
        logits[rows, columns] *= np.float32(-rng.uniform(0.5, 2))
    if rng.random() < 0.2:
        logits += rng.normal(0, 1, logits.shape).astype(np.float32)
    return logits


@settings(max_examples=150, deadline=None)
@given(sides, sides, st.integers(0, 2**32), st.booleans())
def test_a_mask_in_blocks_is_that_of_its_pixels(height: int, width: int, seed: int, padded: bool) -> None:
    size, logits = Size(height, width), draw_logits(seed, 32)
    geometry = LogitsGeometry.padded(size, 64, 32) if padded else LogitsGeometry.stretched(size, 32)
    with blocks_from(1_000_000):
        pixels = upscale_mask(logits, geometry)
    with blocks_from(0):
        blocks = upscale_mask(logits, geometry)
    assert isinstance(blocks, BlockCrop) or not pixels.pixels.size
    assert crops.area(blocks) == crops.area(pixels)
    assert crops.bounding_box(blocks) == crops.bounding_box(pixels)
    assert rle.encode(blocks) == rle.encode(pixels)
    assert (blocks.x, blocks.y, blocks.size) == (pixels.x, pixels.y, pixels.size)
    np.testing.assert_array_equal(blocks.pixels, pixels.pixels)


def test_run_lengths_of_a_large_mask_need_no_pixels() -> None:
    y, x = np.mgrid[:256, :256].astype(np.float32)
    crop = upscale_mask(150 - np.hypot(y - 96, x - 128), LogitsGeometry.padded(Size(3000, 4000), 1024, 256))
    assert isinstance(crop, BlockCrop)
    counts, area, box = rle.encode(crop), crops.area(crop), crops.bounding_box(crop)
    assert "pixels" not in vars(crop)
    mask = rle.decode(counts, crop.size)
    assert np.array_equal(mask, crops.to_mask(crop))
    assert (area, box) == (np.count_nonzero(mask), crops.bounding_box(crops.from_mask(mask)))
