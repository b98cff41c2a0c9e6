"""An image as Mask R-CNN sees it: torchvision's GeneralizedRCNNTransform (models/detection/transform.py)."""

import math

import numpy as np

from segserve.masks.upscale import find_neighbours
from segserve.models.manifest import ResizeEntry
from segserve.types import Float32, Size, UInt8

SIZE_DIVISOR = 32  # what the padded height and width are multiples of


def resize_and_normalise(image: UInt8, entry: ResizeEntry) -> tuple[Float32, Size]:
    """image [H, W, 3] RGB -> [1, 3, h', w'] float32, zeros below and to the right of the resized image, and the
    size of that. Bilinear from the nearest pixels, without a filter: only those pixels are converted, so that
    memory follows the result's size."""
    size = compute_resized_size(Size(*image.shape[:2]), entry)
    rows, down = find_neighbours(image.shape[0], size.height)
    columns, across = find_neighbours(image.shape[1], size.width)
    mixed = np.zeros((size.height, size.width, 3), np.float32)
    for row, of_row in zip(rows.T, down.T.astype(np.float32), strict=True):
        for column, of_column in zip(columns.T, across.T.astype(np.float32), strict=True):
            corner: Float32 = image[np.ix_(row, column)].astype(np.float32)
            mixed += corner * (of_row[:, None, None] * of_column[:, None])
    result = np.zeros((1, 3, pad_side(size.height), pad_side(size.width)), np.float32)
    for channel, (mean, std) in enumerate(zip(entry.mean, entry.std, strict=True)):
        plane = (mixed[:, :, channel] - np.float32(mean)) / np.float32(std)
        result[0, channel, : size.height, : size.width] = plane
    return result, size


def compute_resized_size(size: Size, entry: ResizeEntry) -> Size:
    """Sides are rounded down, but never to 0, where torchvision fails."""
    sides = size.height, size.width
    scale = min(entry.min_size / min(sides), entry.max_size / max(sides))
    return Size(*(max(1, math.floor(side * scale)) for side in sides))


def pad_side(side: int) -> int:
    return math.ceil(side / SIZE_DIVISOR) * SIZE_DIVISOR
