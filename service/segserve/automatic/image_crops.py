"""Crop layers of an image, and masks that a crop's edge cuts, as segment-anything's `segment_anything.utils.amg`.

Boxes here are inclusive: (x0, y0, x1, y1), where x1 and y1 are the last pixels of the mask.
"""

import math
from collections.abc import Sequence

import numpy as np

from segserve.types import Bool, Float32, Region, Size

CROP_EDGE_TOLERANCE_PX = 20.0  # the tolerance of `is_box_near_crop_edge`


def make_crop_layer(size: Size, layer: int, overlap_ratio: float) -> list[Region]:
    """Return the 2^layer x 2^layer crops of an image, column by column. Crops without pixels are left out.

    layer: from 1.
    overlap_ratio: overlap of the first layer's crops, as a share of the image's shorter side.
    """
    count = 2**layer
    overlap = int(overlap_ratio * min(size.height, size.width) * (2 / count))
    width, height = (math.ceil((overlap * (count - 1) + side) / count) for side in (size.width, size.height))
    crops = []
    for column in range(count):
        for row in range(count):
            x, y = (width - overlap) * column, (height - overlap) * row
            region = Region(x, y, min(width, size.width - x), min(height, size.height - y))
            if region.width > 0 and region.height > 0:
                crops.append(region)
    return crops


def find_boxes_near_crop_edge(boxes: Float32, region: Region, size: Size) -> Bool:
    """Return which boxes [N, 4] end near an edge of the crop that is not an edge of the image, [N].

    The crop cuts through the objects of these boxes. The same as `is_box_near_crop_edge`.

    boxes: in pixels of the image.
    region: the crop.
    size: of the image.
    """
    crop = np.array([region.x, region.y, region.x + region.width, region.y + region.height], np.float32)
    image = np.array([0, 0, size.width, size.height], np.float32)
    near_crop = np.abs(boxes - crop) <= CROP_EDGE_TOLERANCE_PX
    near_image = np.abs(boxes - image) <= CROP_EDGE_TOLERANCE_PX
    is_cut: Bool = (near_crop & ~near_image).any(axis=1)
    return is_cut


def to_inclusive_boxes(boxes: Sequence[tuple[int, int, int, int]]) -> Float32:
    """Return the inclusive boxes [N, 4] of boxes whose x1 and y1 are exclusive."""
    exclusive = np.array(boxes, np.float32).reshape(-1, 4)
    return exclusive - np.array([0, 0, 1, 1], np.float32)
