"""Which of the objects of a whole image an annotator keeps, and in which order.

Masks of AMG overlap: a mask may be the background, or the union of several objects. The reference answers them all.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from segserve.masks import crop as crops
from segserve.masks.crop import trim_crop
from segserve.types import Crop, SegmentedObject, Size

# What touches all four edges and covers more than this share of the image is its background.
MAX_BACKGROUND_SHARE = 0.5
# An object of which smaller objects leave less than this share to be seen is their union, and goes.
MIN_VISIBLE_SHARE = 0.5
# Where one object alone hides so much of another, they are two opinions on one object: the better scored stays.
MIN_RIVAL_SHARE = 0.8
# Parts of a mask below this share of its largest part are specks.
MIN_PART_SHARE = 0.1


def select_objects(objects: list[SegmentedObject], size: Size) -> list[SegmentedObject]:
    """Return the objects of an image without background, unions, rivals and specks, in reading order.

    Scores end at 0 and 1: an IoU that a network predicts may be a little more.
    """
    cleaned = [replace(item, crop=remove_specks(item.crop), score=clip_score(item.score)) for item in objects]
    foreground = [item for item in cleaned if not is_background(item.crop, size)]
    return sort_objects(remove_hidden(foreground, size))


def clip_score(score: float | None) -> float | None:
    """Return the score within 0 to 1."""
    return None if score is None else min(1.0, max(0.0, score))


def sort_objects(objects: list[SegmentedObject]) -> list[SegmentedObject]:
    """Return the objects in the reading order of their first pixels, which does not depend on scores or thresholds."""
    return sorted(objects, key=lambda item: first_pixel(item.crop))


def first_pixel(mask: Crop) -> tuple[int, int]:
    """Return (y, x) of the topmost, then leftmost pixel of a mask; the corner of an empty one."""
    rows = np.flatnonzero(mask.pixels.any(axis=1))
    if not rows.size:
        return mask.y, mask.x
    return mask.y + int(rows[0]), mask.x + int(mask.pixels[rows[0]].argmax())


def is_background(mask: Crop, size: Size) -> bool:
    """Return whether the mask touches all edges of the image and covers most of it."""
    if crops.bounding_box(mask) != (0, 0, size.width, size.height):
        return False
    return crops.area(mask) > MAX_BACKGROUND_SHARE * size.height * size.width


def remove_specks(mask: Crop) -> Crop:
    """Return the mask without parts (8-connected) of less than MIN_PART_SHARE of its largest part."""
    labels, count = ndimage.label(mask.pixels, np.ones((3, 3)))
    if count < 2:
        return mask
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return trim_crop(replace(mask, pixels=(areas >= MIN_PART_SHARE * areas.max())[labels]))


def remove_hidden(objects: list[SegmentedObject], size: Size) -> list[SegmentedObject]:
    """Return the objects that show at least MIN_VISIBLE_SHARE of themselves, where smaller ones lie on top.

    If a single smaller object hides a larger one, the one with the lower score goes.
    """
    owners = np.zeros((size.height, size.width), np.int32)  # the number, from 1, of the object on top
    areas = [crops.area(item.crop) for item in objects]
    kept: set[int] = set()
    for index in sorted(range(len(objects)), key=lambda i: areas[i]):
        window = view(owners, objects[index].crop)
        pixels = objects[index].crop.pixels
        hiding = np.bincount(window[pixels], minlength=1)
        hiding[0] = 0
        hidden = int(hiding.sum())
        if not areas[index]:
            continue
        if areas[index] - hidden < MIN_VISIBLE_SHARE * areas[index]:
            rival = int(hiding.argmax()) - 1
            if hiding[rival + 1] < MIN_RIVAL_SHARE * hidden or not is_better(objects[index], objects[rival]):
                continue
            kept.discard(rival)
            owners[owners == rival + 1] = 0
        kept.add(index)
        window[pixels & (window == 0)] = index + 1
    return [objects[index] for index in sorted(kept)]


def is_better(item: SegmentedObject, rival: SegmentedObject) -> bool:
    """Return whether the score of `item` is higher. Without scores the smaller object, the rival, is better."""
    return item.score is not None and rival.score is not None and item.score > rival.score


def view(image: np.ndarray, mask: Crop) -> np.ndarray:
    """Return the part of an image [H, W] where the mask lies, as a view."""
    height, width = mask.pixels.shape
    return image[mask.y : mask.y + height, mask.x : mask.x + width]
