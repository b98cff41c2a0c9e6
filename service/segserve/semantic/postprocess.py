"""Class maps tidied, each class by itself: what `Postprocess` names, by scipy.ndimage."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from segserve.models.semantic_manifest import Postprocess
from segserve.types import Bool, UInt8

TOUCHING = np.ones((3, 3), np.bool_)  # by edges or corners
STRIP_ROWS = 1024  # worked on at once by opening and closing, whose distances take 24 bytes a pixel


def tidy(classes: UInt8, options: Postprocess) -> UInt8:
    """[H, W] -> [H, W]. What a class loses becomes background, and only background is gained: no class takes
    pixels from another, and of two that gain the same pixel the first has it."""
    if options == Postprocess():
        return classes
    result = np.zeros_like(classes)
    for value in np.flatnonzero(np.bincount(classes.ravel())):
        if value:
            own = classes == value
            grown = smooth(own, options) & (own | ((classes == 0) & (result == 0)))
            result[by_size(grown, options)] = value
    return result


def smooth(mask: Bool, options: Postprocess) -> Bool:
    if options.opening:
        mask = in_strips(mask, 2 * options.opening, lambda part: opened(part, options.opening))
    if options.closing:
        mask = in_strips(mask, 2 * options.closing, lambda part: ~opened(~part, options.closing))
    if options.fill_holes:
        mask = without_holes(mask)
    return mask


def in_strips(mask: Bool, reach: int, work: Callable[[Bool], Bool]) -> Bool:
    """`work` over the whole mask a strip at a time. reach: rows away from a pixel that may matter to it."""
    result = np.empty_like(mask)
    for start in range(0, len(mask), STRIP_ROWS):
        top, end = max(0, start - reach), start + STRIP_ROWS
        result[start:end] = work(mask[top : end + reach])[start - top : end - top]
    return result


def opened(mask: Bool, radius: int) -> Bool:
    """Eroded and dilated by a disc (dx^2 + dy^2 <= radius^2). The mask goes on beyond the image's edge as it is at
    the edge, so that objects there are not eaten from outside."""
    return near(~near(~mask, radius), radius)


def near(mask: Bool, radius: int) -> Bool:
    """Within `radius` of a pixel of the mask."""
    if not mask.any():
        return mask
    distance: Bool = ndimage.distance_transform_edt(~mask) <= radius
    return distance


def without_holes(mask: Bool) -> Bool:
    """Everything that cannot be left through edges of pixels not in the mask joins it."""
    parts, _ = ndimage.label(~mask)
    outside = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    is_hole = np.ones(int(parts.max(initial=0)) + 1, np.bool_)
    is_hole[outside] = False
    is_hole[0] = True  # the mask itself
    filled: Bool = is_hole[parts]
    return filled


def by_size(mask: Bool, options: Postprocess) -> Bool:
    """Without the parts that are too small, or but the largest one; of equal ones the first."""
    if not (options.min_size or options.keep_largest):
        return mask
    parts, _ = ndimage.label(mask, TOUCHING)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    kept = areas >= max(1, options.min_size)
    if options.keep_largest:
        kept &= np.arange(len(areas)) == areas.argmax()
    chosen: Bool = kept[parts]
    return chosen
