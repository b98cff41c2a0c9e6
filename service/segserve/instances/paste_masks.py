"""The mask of a box becomes a mask of the image: torchvision's `paste_masks_in_image` (models/detection/roi_heads.py).

The mask gets a border of zeros, one mask pixel wide. Its box grows with it and is rounded to whole pixels. Then the
mask is resized bilinearly to the box. torchvision writes each mask into an image of its own; here it stays a crop.
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
    """Where one axis of a resized mask lies on the image. The part [start, stop) of it is visible.

    first: the mask's first pixel on the image; negative if it lies outside.
    length: pixels of the whole mask.
    start, stop: in pixels of the mask.
    """

    first: int
    length: int
    start: int
    stop: int

    @property
    def visible(self) -> int:
        """The number of visible pixels."""
        return max(0, self.stop - self.start)


def scale_boxes(boxes: Float32, resized: Size, size: Size) -> Float32:
    """Scale boxes [M, 4] of an image resized to `resized` to pixels of the original image of `size`."""
    new, old = (np.array([each.width, each.height] * 2, np.float32) for each in (size, resized))
    return boxes * (new / old)


def find_mask_windows(boxes: Float32, side: int, size: Size) -> list[tuple[AxisWindow, AxisWindow]]:
    """Return the rows and columns of the masks on the image.

    boxes: [M, 4] in pixels of the image.
    side: pixels of a mask along each side, before it is resized.
    size: of the image.
    """
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * np.float32((side + 2 * BORDER_PX) / side)
    centres = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    first, last = (centres - half).astype(np.int64), (centres + half).astype(np.int64)
    return [
        (make_axis_window(y0, y1, size.height), make_axis_window(x0, x1, size.width))
        for (x0, y0), (x1, y1) in zip(first.tolist(), last.tolist(), strict=True)
    ]


def make_axis_window(first: int, last: int, image_length: int) -> AxisWindow:
    """Return the window of a mask from its `first` to its `last` pixel on an axis of `image_length` pixels."""
    return AxisWindow(first, max(1, last - first + 1), max(0, -first), min(last + 1, image_length) - first)


def paste_mask(mask: Float32, rows: AxisWindow, columns: AxisWindow, size: Size, threshold: float) -> Crop:
    """Return where the resized mask reaches `threshold`, as a crop of the image of `size`.

    mask: [m, m] probabilities.
    """
    bordered = np.pad(mask, BORDER_PX)
    wide = bordered @ make_resize_matrix(columns, len(bordered)).T
    row_matrix = make_resize_matrix(rows, len(bordered))
    pixels = np.empty((rows.visible, columns.visible), np.bool_)
    block_rows = max(1, MAX_RESIZE_VALUES // max(1, columns.visible))
    for top in range(0, rows.visible, block_rows):
        block = slice(top, top + block_rows)
        pixels[block] = row_matrix[block] @ wide >= np.float32(threshold)
    return trim_crop(Crop(pixels, columns.first + columns.start, rows.first + rows.start, size))


def make_resize_matrix(axis: AxisWindow, side: int) -> Float32:
    """Return the matrix [n, side] that resizes `side` values bilinearly to the n visible pixels.

    Only two values of a row are not 0, but a matrix product touches every pixel only once.
    """
    index, weights = find_neighbours(side, axis.length)
    matrix = np.zeros((axis.visible, side), np.float32)
    row, visible = np.arange(axis.visible), slice(axis.start, axis.stop)
    for tap in (0, 1):
        matrix[row, index[visible, tap]] += weights[visible, tap]
    return matrix
