"""Small holes of masks are filled and small islands removed, as by segment-anything's `remove_small_regions`.

Holes and islands are connected components, of pixels that touch at an edge or a corner.
"""

import numpy as np
from scipy import ndimage

from segserve.masks.crop import trim_crop
from segserve.types import Bool, Crop

EIGHT_CONNECTED = np.ones((3, 3), np.bool_)  # pixels that touch at an edge or a corner are connected


def remove_small_regions(crop: Crop, area: int) -> tuple[Crop, bool]:
    """Return the mask without small holes and islands, and whether it changed.

    First holes of fewer than `area` pixels are filled, then islands of fewer than `area` pixels are removed. If all
    islands are small, the largest stays.
    """
    crop, filled = _fill_holes(_extend_to_image_edges(crop, area), area)
    pixels, removed = _remove_islands(crop.pixels, area)
    return trim_crop(Crop(pixels, crop.x, crop.y, crop.size)), filled or removed


def _extend_to_image_edges(crop: Crop, area: int) -> Crop:
    """Extend the crop to each edge of the image that is so near that the gap is smaller than `area`.

    Such a gap can be a small hole like any other.
    """
    (height, width), size = crop.pixels.shape, crop.size
    below, right = size.height - crop.y - height, size.width - crop.x - width
    top, bottom = (gap if gap * size.width < area else 0 for gap in (crop.y, below))
    left, right = (gap if gap * size.height < area else 0 for gap in (crop.x, right))
    pixels = np.pad(crop.pixels, ((top, bottom), (left, right)))
    return Crop(pixels, crop.x - left, crop.y - top, size)


def _fill_holes(crop: Crop, area: int) -> tuple[Crop, bool]:
    """Return the crop with its small holes filled, and whether there were any.

    A rim of one pixel stands for the image outside the crop. Background connected to it is no small hole.
    """
    (height, width), size = crop.pixels.shape, crop.size
    rim = ((crop.y > 0, crop.y + height < size.height), (crop.x > 0, crop.x + width < size.width))
    (above, below), (before, behind) = rim
    padded = np.pad(crop.pixels, [tuple(map(int, side)) for side in rim])
    labels, count = ndimage.label(~padded, EIGHT_CONNECTED)
    is_small = np.bincount(labels.ravel(), minlength=count + 1) < area
    is_small[0] = False
    for outside, edge in (
        (above, labels[0]),
        (below, labels[-1]),
        (before, labels[:, 0]),
        (behind, labels[:, -1]),
    ):
        if outside:
            is_small[edge] = False
    if not is_small.any():
        return crop, False
    filled = (padded | is_small[labels])[int(above) : int(above) + height, int(before) : int(before) + width]
    return Crop(filled, crop.x, crop.y, size), True


def _remove_islands(pixels: Bool, area: int) -> tuple[Bool, bool]:
    """Return the mask [h, w] without its small islands, and whether there were any; the largest always stays."""
    labels, count = ndimage.label(pixels, EIGHT_CONNECTED)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    is_kept = sizes >= area
    is_kept[0] = False
    if is_kept[1:].all():
        return pixels, False
    if not is_kept.any():
        is_kept[1 + int(sizes[1:].argmax())] = True
    return is_kept[labels], True
