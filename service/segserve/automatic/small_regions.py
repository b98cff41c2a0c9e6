"""Small holes of masks filled and small islands removed, as segment-anything's `remove_small_regions` does."""

import numpy as np
from scipy import ndimage

from segserve.masks.crop import trim_crop
from segserve.types import Bool, Crop

EIGHT_CONNECTED = np.ones((3, 3), np.bool_)  # pixels that touch at a corner are connected


def remove_small_regions(crop: Crop, area: int) -> tuple[Crop, bool]:
    """The mask with holes of fewer pixels filled, then its islands of fewer pixels removed, the largest staying
    where all are; and whether that changed it. `remove_small_regions`."""
    crop, filled = _fill_holes(_room(crop, area), area)
    pixels, removed = _drop_islands(crop.pixels, area)
    return trim_crop(Crop(pixels, crop.x, crop.y, crop.size)), filled or removed


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
    labels, count = ndimage.label(~padded, EIGHT_CONNECTED)
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
    labels, count = ndimage.label(pixels, EIGHT_CONNECTED)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    stays = sizes >= area
    stays[0] = False
    if stays[1:].all():
        return pixels, False
    if not stays.any():
        stays[1 + int(sizes[1:].argmax())] = True
    return stays[labels], True
