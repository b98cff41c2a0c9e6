"""An image becomes the input of Mask R-CNN: torchvision's GeneralizedRCNNTransform (models/detection/transform.py)."""

import math

import numpy as np

from segserve.masks.upscale import find_neighbours
from segserve.models.manifest import ResizeEntry
from segserve.types import Float32, Size, UInt8

SIZE_DIVISOR = 32  # the padded height and width are multiples of this


def resize_and_normalise(image: UInt8, entry: ResizeEntry) -> tuple[Float32, Size]:
    """Return the network's input [1, 3, h', w'] float32, and the size of the resized image in it.

    The resized image lies at the top left; below and to the right of it are zeros. Resizing is bilinear without an
    antialiasing filter. Only the pixels that it reads are converted to float, so memory follows the result's size.

    image: [H, W, 3] RGB.
    """
    size = compute_resized_size(Size(*image.shape[:2]), entry)
    rows, row_weights = find_neighbours(image.shape[0], size.height)
    columns, column_weights = find_neighbours(image.shape[1], size.width)
    resized = np.zeros((size.height, size.width, 3), np.float32)
    for row, row_weight in zip(rows.T, row_weights.T.astype(np.float32), strict=True):
        for column, column_weight in zip(columns.T, column_weights.T.astype(np.float32), strict=True):
            corner: Float32 = image[np.ix_(row, column)].astype(np.float32)
            resized += corner * (row_weight[:, None, None] * column_weight[:, None])
    result = np.zeros((1, 3, pad_side(size.height), pad_side(size.width)), np.float32)
    for channel, (mean, std) in enumerate(zip(entry.mean, entry.std, strict=True)):
        plane = (resized[:, :, channel] - np.float32(mean)) / np.float32(std)
        result[0, channel, : size.height, : size.width] = plane
    return result, size


def compute_resized_size(size: Size, entry: ResizeEntry) -> Size:
    """Return the size to which an image of `size` is resized.

    Sides are rounded down, but never to 0, where torchvision fails.
    """
    sides = size.height, size.width
    scale = min(entry.min_size / min(sides), entry.max_size / max(sides))
    return Size(*(max(1, math.floor(side * scale)) for side in sides))


def pad_side(side: int) -> int:
    """Return the next multiple of SIZE_DIVISOR."""
    return math.ceil(side / SIZE_DIVISOR) * SIZE_DIVISOR
