"""Masks of boxes as masks of the image: torchvision's `paste_masks_in_image` (models/detection/roi_heads.py).

A mask gets a border of zeros one of its pixels wide, its box grows with it, and both go to whole pixels; there the
mask is resized bilinearly. torchvision writes each into an image of its own; here it stays a crop.
"""

from dataclasses import dataclass

import numpy as np

from segserve.masks.crop import trim_crop
from segserve.masks.upscale import find_neighbours
from segserve.types import Crop, Float32, Size

BORDER_PX = 1
MAX_RESIZE_VALUES = 1 << 20  # float32 values held at a time while a mask is resized


@dataclass(frozen=True)
class AxisWindow:
    """Where one axis of a mask lies. first: on the image. length: of the whole, of which [start, stop) is seen."""

    first: int
    length: int
    start: int
    stop: int

    @property
    def visible(self) -> int:
        return max(0, self.stop - self.start)


def scale_boxes(boxes: Float32, shown: Size, size: Size) -> Float32:
    """boxes [M, 4] of an image resized to `shown`, in pixels of the image of `size`."""
    new, old = (np.array([each.width, each.height] * 2, np.float32) for each in (size, shown))
    return boxes * (new / old)


def find_mask_windows(boxes: Float32, side: int, size: Size) -> list[tuple[AxisWindow, AxisWindow]]:
    """Rows and columns of the masks, `side` pixels wide, of boxes [M, 4] in pixels of the image."""
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * np.float32((side + 2 * BORDER_PX) / side)
    centres = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    first, last = (centres - half).astype(np.int64), (centres + half).astype(np.int64)
    return [
        (make_axis_window(y0, y1, size.height), make_axis_window(x0, x1, size.width))
        for (x0, y0), (x1, y1) in zip(first.tolist(), last.tolist(), strict=True)
    ]


def make_axis_window(first: int, last: int, limit: int) -> AxisWindow:
    """last: the last pixel, on an image with `limit` of them."""
    return AxisWindow(first, max(1, last - first + 1), max(0, -first), min(last + 1, limit) - first)


def paste_mask(mask: Float32, rows: AxisWindow, columns: AxisWindow, size: Size, threshold: float) -> Crop:
    """Where the mask [m, m] of probabilities, resized, is at least `threshold`."""
    bordered = np.pad(mask, BORDER_PX)
    wide = bordered @ make_resize_matrix(columns, len(bordered)).T
    down = make_resize_matrix(rows, len(bordered))
    pixels = np.empty((rows.visible, columns.visible), np.bool_)
    at_once = max(1, MAX_RESIZE_VALUES // max(1, columns.visible))
    for top in range(0, rows.visible, at_once):
        part = slice(top, top + at_once)
        pixels[part] = down[part] @ wide >= np.float32(threshold)
    return trim_crop(Crop(pixels, columns.first + columns.start, rows.first + rows.start, size))


def make_resize_matrix(axis: AxisWindow, side: int) -> Float32:
    """[n, side]: what makes n pixels that are seen of `side` values. Two of a row are not 0, but a product with a
    matrix passes over the pixels once."""
    index, weights = find_neighbours(side, axis.length)
    matrix = np.zeros((axis.visible, side), np.float32)
    row, seen = np.arange(axis.visible), slice(axis.start, axis.stop)
    for tap in (0, 1):
        matrix[row, index[seen, tap]] += weights[seen, tap]
    return matrix
