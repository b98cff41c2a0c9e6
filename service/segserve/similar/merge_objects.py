"""The objects of all parts of an image become one list, in which no two share pixels."""

from dataclasses import replace

import numpy as np

from segserve.masks import crop as crops
from segserve.similar.search_region import MAX_TAKEN_SHARE, SimilarObject
from segserve.types import Bool, Crop, Region, Size


def move_to_image(item: SimilarObject, region: Region | None, size: Size) -> SimilarObject:
    """Return an object of a region in pixels of the image of this size."""
    if region is None:
        return item
    crop = item.crop
    return replace(item, crop=Crop(crop.pixels, crop.x + region.x, crop.y + region.y, size))


def touches_cut(crop: Crop, region: Region | None) -> bool:
    """Return whether a mask in pixels of the image touches an edge of the region that is no edge of the image."""
    if region is None:
        return False
    x0, y0, x1, y1 = crops.bounding_box(crop)
    right, bottom = region.x + region.width, region.y + region.height
    return (
        (x0 <= region.x and region.x > 0)
        or (y0 <= region.y and region.y > 0)
        or (x1 >= right and right < crop.size.width)
        or (y1 >= bottom and bottom < crop.size.height)
    )


def has_middle_in(crop: Crop, region: Region) -> bool:
    """Return whether the middle of the mask's bounding box lies in the region."""
    x0, y0, x1, y1 = crops.bounding_box(crop)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return region.x <= x < region.x + region.width and region.y <= y < region.y + region.height


def merge_objects(
    examples: list[Crop], objects: list[SimilarObject], max_objects: int
) -> list[SimilarObject]:
    """Return the objects without those that mostly lie on examples or on better ones, by descending likeness.

    The rest of an overlap belongs to the example, or to the better object. At most `max_objects` are returned, the best
    ones.
    """
    kept: list[Crop] = list(examples)
    boxes = [crops.bounding_box(crop) for crop in kept]
    merged: list[SimilarObject] = []
    for item in sorted(objects, key=lambda item: -item.rank):
        if len(merged) == max_objects:
            break
        crop = crops.trim_crop(item.crop)
        taken = find_taken(crop, kept, boxes)
        area = np.count_nonzero(crop.pixels)
        if not area or np.count_nonzero(taken & crop.pixels) > MAX_TAKEN_SHARE * area:
            continue
        crop = crops.trim_crop(replace(crop, pixels=crop.pixels & ~taken))
        kept.append(crop)
        boxes.append(crops.bounding_box(crop))
        merged.append(replace(item, crop=crop))
    return sorted(merged, key=lambda item: -item.likeness)


def find_taken(crop: Crop, others: list[Crop], boxes: list[tuple[int, int, int, int]]) -> Bool:
    """Return which of the crop's pixels [h, w] belong to other masks. boxes: their bounding boxes."""
    taken: Bool = np.zeros(crop.pixels.shape, np.bool_)
    if not boxes:
        return taken
    x0, y0, x1, y1 = np.hsplit(np.array(boxes), 4)
    height, width = crop.pixels.shape
    near = (x0 < crop.x + width) & (x1 > crop.x) & (y0 < crop.y + height) & (y1 > crop.y)
    for index in np.flatnonzero(near).tolist():
        other = others[index]
        bottom, right = other.y + other.pixels.shape[0], other.x + other.pixels.shape[1]
        top, left = max(crop.y, other.y), max(crop.x, other.x)
        bottom, right = min(crop.y + height, bottom), min(crop.x + width, right)
        if top < bottom and left < right:
            taken[top - crop.y : bottom - crop.y, left - crop.x : right - crop.x] |= other.pixels[
                top - other.y : bottom - other.y, left - other.x : right - other.x
            ]
    return taken
