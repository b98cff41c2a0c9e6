"""Crop layers of an image, and the masks that a crop's edge cuts: segment-anything's `segment_anything.utils.amg`.

Boxes here are as there: (x0, y0, x1, y1) with x1 and y1 the last pixels that belong to the mask.
"""

import math
from collections.abc import Sequence

import numpy as np

from segserve.types import Bool, Float32, Region, Size

CROP_EDGE_TOLERANCE_PX = 20.0  # `is_box_near_crop_edge`'s tolerance


def make_crop_layer(size: Size, layer: int, overlap_ratio: float) -> list[Region]:
    """A layer's crops, from 1; those of an image too small for them are left out."""
    count = 2**layer
    overlap = int(overlap_ratio * min(size.height, size.width) * (2 / count))
    width, height = (math.ceil((overlap * (count - 1) + side) / count) for side in (size.width, size.height))
    found = []
    for column in range(count):
        for row in range(count):
            x, y = (width - overlap) * column, (height - overlap) * row
            region = Region(x, y, min(width, size.width - x), min(height, size.height - y))
            if region.width > 0 and region.height > 0:
                found.append(region)
    return found


def find_boxes_near_crop_edge(boxes: Float32, region: Region, size: Size) -> Bool:
    """Which of the boxes [N, 4], in pixels of the image, end near an edge of the crop that is not the image's:
    they are of objects that the crop cuts through. `is_box_near_crop_edge`."""
    crop = np.array([region.x, region.y, region.x + region.width, region.y + region.height], np.float32)
    image = np.array([0, 0, size.width, size.height], np.float32)
    near = (np.abs(boxes - crop) <= CROP_EDGE_TOLERANCE_PX) & ~(
        np.abs(boxes - image) <= CROP_EDGE_TOLERANCE_PX
    )
    cut: Bool = near.any(axis=1)
    return cut


def to_inclusive_boxes(boxes: Sequence[tuple[int, int, int, int]]) -> Float32:
    """[N, 4] from boxes whose x1 and y1 are exclusive."""
    exclusive = np.array(boxes, np.float32).reshape(-1, 4)
    return exclusive - np.array([0, 0, 1, 1], np.float32)
