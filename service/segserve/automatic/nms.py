"""Which of many overlapping masks stay: as segment-anything's `SamAutomaticMaskGenerator` decides.

Boxes here are as there: (x0, y0, x1, y1) with x1 and y1 the last pixels that belong to the mask. Comparisons are
made in fp32 as torch makes them, so that what lies on a threshold falls to the same side.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.masks.crop import trim
from segserve.types import Bool, Crop, Float32, Region, Size

Int = NDArray[np.int64]

EDGE_PIXELS = 20.0  # `is_box_near_crop_edge`'s tolerance
NEIGHBOURS = np.ones((3, 3), np.bool_)  # pixels that touch at a corner are connected


def near_crop_edge(boxes: Float32, region: Region, size: Size) -> Bool:
    """Which of the boxes [N, 4], in pixels of the image, end near an edge of the crop that is not the image's:
    they are of objects that the crop cuts through. `is_box_near_crop_edge`."""
    crop = np.array([region.x, region.y, region.x + region.width, region.y + region.height], np.float32)
    image = np.array([0, 0, size.width, size.height], np.float32)
    near = (np.abs(boxes - crop) <= EDGE_PIXELS) & ~(np.abs(boxes - image) <= EDGE_PIXELS)
    cut: Bool = near.any(axis=1)
    return cut


def non_maximum(boxes: Float32, scores: Float32, threshold: float) -> Int:
    """Positions of the boxes [N, 4] that stay, by falling score [N]; of two whose IoU exceeds the threshold the
    one with the higher score, of equal ones the earlier. `torchvision.ops.nms`."""
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        across = np.minimum(boxes[best, 2], boxes[rest, 2]) - np.maximum(boxes[best, 0], boxes[rest, 0])
        down = np.minimum(boxes[best, 3], boxes[rest, 3]) - np.maximum(boxes[best, 1], boxes[rest, 1])
        common = np.maximum(across, 0) * np.maximum(down, 0)
        with np.errstate(invalid="ignore"):  # boxes of one pixel's width have no area: 0 / 0 exceeds nothing
            iou = common / (areas[best] + areas[rest] - common)
        order = rest[~(iou > np.float64(threshold))]
    return np.array(kept, np.int64)


def without_small_regions(crop: Crop, area: int) -> tuple[Crop, bool]:
    """The mask with holes of fewer pixels filled, then its islands of fewer pixels removed, the largest staying
    where all are; and whether that changed it. `remove_small_regions`."""
    crop, filled = _fill_holes(_room(crop, area), area)
    pixels, removed = _drop_islands(crop.pixels, area)
    return trim(Crop(pixels, crop.x, crop.y, crop.size)), filled or removed


def _room(crop: Crop, area: int) -> Crop:
    """The crop grown to an edge of the image where what lies between is smaller than `area`: a hole like others."""
    (height, width), size = crop.pixels.shape, crop.size
    below, right = size.height - crop.y - height, size.width - crop.x - width
    top, bottom = (gap if gap * size.width < area else 0 for gap in (crop.y, below))
    left, right = (gap if gap * size.height < area else 0 for gap in (crop.x, right))
    pixels = np.pad(crop.pixels, ((top, bottom), (left, right)))
    return Crop(pixels, crop.x - left, crop.y - top, size)


def _fill_holes(crop: Crop, area: int) -> tuple[Crop, bool]:
    """What lies outside the crop is seen as a rim of one pixel, and is not small."""
    (height, width), size = crop.pixels.shape, crop.size
    rim = ((crop.y > 0, crop.y + height < size.height), (crop.x > 0, crop.x + width < size.width))
    (above, below), (before, behind) = rim
    padded = np.pad(crop.pixels, [tuple(map(int, side)) for side in rim])
    labels, count = ndimage.label(~padded, NEIGHBOURS)
    small = np.bincount(labels.ravel(), minlength=count + 1) < area
    small[0] = False
    for outside, edge in (
        (above, labels[0]),
        (below, labels[-1]),
        (before, labels[:, 0]),
        (behind, labels[:, -1]),
    ):
        if outside:
            small[edge] = False
    if not small.any():
        return crop, False
    filled = (padded | small[labels])[int(above) : int(above) + height, int(before) : int(before) + width]
    return Crop(filled, crop.x, crop.y, size), True


def _drop_islands(pixels: Bool, area: int) -> tuple[Bool, bool]:
    labels, count = ndimage.label(pixels, NEIGHBOURS)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    stays = sizes >= area
    stays[0] = False
    if stays[1:].all():
        return pixels, False
    if not stays.any():
        stays[1 + int(sizes[1:].argmax())] = True
    return stays[labels], True


def reference_boxes(boxes: Sequence[tuple[int, int, int, int]]) -> Float32:
    """[N, 4] from boxes whose x1 and y1 are exclusive."""
    exclusive = np.array(boxes, np.float32).reshape(-1, 4)
    return exclusive - np.array([0, 0, 1, 1], np.float32)
