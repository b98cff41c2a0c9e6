"""Binary masks kept as a `Crop`: the part of the image that can hold ones, and where it lies."""

import numpy as np

from segserve.masks import geometry
from segserve.masks.block_crop import BlockCrop
from segserve.types import Bool, Crop, Size


def from_mask(mask: Bool) -> Crop:
    """Return the crop of a full-size mask [H, W] bool, cut to the bounding box of its ones."""
    height, width = mask.shape
    return trim_crop(Crop(mask, 0, 0, Size(height, width)))


def to_mask(crop: Crop) -> Bool:
    """Return the full-size mask [H, W] bool."""
    mask = np.zeros((crop.size.height, crop.size.width), np.bool_)
    height, width = crop.pixels.shape
    mask[crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels
    return mask


def trim_crop(crop: Crop) -> Crop:
    """Return the same mask cut to the bounding box of its ones; 0 x 0 pixels at (0, 0) if it has none.

    The result's pixels are a view of `crop.pixels`.
    """
    x0, y0, x1, y1 = geometry.bounding_box(crop.pixels)
    if x0 == x1:
        return empty_crop(crop.size)
    return Crop(crop.pixels[y0:y1, x0:x1], crop.x + x0, crop.y + y0, crop.size)


def empty_crop(size: Size) -> Crop:
    """Return the mask without ones of an image of `size`."""
    return Crop(np.zeros((0, 0), np.bool_), 0, 0, size)


def area(crop: Crop) -> int:
    """Return the number of ones, in pixels."""
    if isinstance(crop, BlockCrop):
        return crop.area
    return int(np.count_nonzero(crop.pixels))


def bounding_box(crop: Crop) -> tuple[int, int, int, int]:
    """Return `geometry.bounding_box` of the crop's mask, in pixels of the image.

    (x0, y0, x1, y1) with x1 and y1 exclusive; (0, 0, 0, 0) if there are no ones.
    """
    if isinstance(crop, BlockCrop):
        return crop.box
    trimmed = trim_crop(crop)
    height, width = trimmed.pixels.shape
    return trimmed.x, trimmed.y, trimmed.x + width, trimmed.y + height


def cut_window(crop: Crop, margin: int) -> tuple[Bool, int, int]:
    """Return the mask within `margin` pixels around its crop, as far as the image goes: [h, w], and its corner x, y."""
    height, width = crop.pixels.shape
    y0, x0 = max(0, crop.y - margin), max(0, crop.x - margin)
    y1, x1 = min(crop.size.height, crop.y + height + margin), min(crop.size.width, crop.x + width + margin)
    window = np.zeros((y1 - y0, x1 - x0), np.bool_)
    window[crop.y - y0 : crop.y - y0 + height, crop.x - x0 : crop.x - x0 + width] = crop.pixels
    return window, x0, y0
