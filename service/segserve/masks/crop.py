"""Crops: a mask kept as the part of the image that can hold ones."""

import numpy as np

from segserve.masks import geometry
from segserve.types import Bool, Crop, Size


def from_mask(mask: Bool) -> Crop:
    """The crop of a full-size mask [H, W] bool, cut to the bounding box of its ones."""
    height, width = mask.shape
    return trim(Crop(mask, 0, 0, Size(height, width)))


def to_mask(crop: Crop) -> Bool:
    """The full-size mask [H, W] bool."""
    mask = np.zeros((crop.size.height, crop.size.width), np.bool_)
    height, width = crop.pixels.shape
    mask[crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels
    return mask


def trim(crop: Crop) -> Crop:
    """The same mask cut to the bounding box of its ones; 0 x 0 pixels at (0, 0) if it has none.

    The pixels are a view of the given ones.
    """
    x0, y0, x1, y1 = geometry.bounding_box(crop.pixels)
    if x0 == x1:
        return empty(crop.size)
    return Crop(crop.pixels[y0:y1, x0:x1], crop.x + x0, crop.y + y0, crop.size)


def empty(size: Size) -> Crop:
    """The mask without ones of an image of `size`."""
    return Crop(np.zeros((0, 0), np.bool_), 0, 0, size)


def area(crop: Crop) -> int:
    """The number of ones, in pixels."""
    return int(np.count_nonzero(crop.pixels))


def bounding_box(crop: Crop) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of the ones in pixels of the image, x1 and y1 exclusive; zeros if there are none."""
    tight = trim(crop)
    height, width = tight.pixels.shape
    return tight.x, tight.y, tight.x + width, tight.y + height
