"""Morphology of binary masks: opening, closing and hole filling, with the semantics of scipy.ndimage."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from segserve.models.semantic_manifest import Postprocess
from segserve.types import Bool

STRIP_ROWS = 1024  # rows per strip: the distance transform of opening and closing takes 24 bytes a pixel


def apply_morphology(mask: Bool, options: Postprocess) -> Bool:
    """Return the mask [H, W] after `options.opening`, `closing` and `fill_holes`, in this order."""
    if options.opening:
        mask = process_in_strips(mask, 2 * options.opening, lambda part: open_mask(part, options.opening))
    if options.closing:
        mask = process_in_strips(mask, 2 * options.closing, lambda part: ~open_mask(~part, options.closing))
    if options.fill_holes:
        mask = fill_holes(mask)
    return mask


def process_in_strips(mask: Bool, overlap_rows: int, process: Callable[[Bool], Bool]) -> Bool:
    """Apply `process` to the whole mask, strip by strip.

    overlap_rows: the result at a pixel may depend on pixels up to this many rows away.
    """
    result = np.empty_like(mask)
    for start in range(0, len(mask), STRIP_ROWS):
        top, end = max(0, start - overlap_rows), start + STRIP_ROWS
        result[start:end] = process(mask[top : end + overlap_rows])[start - top : end - top]
    return result


def open_mask(mask: Bool, radius: int) -> Bool:
    """Return the morphological opening (erosion, then dilation) by a disc, dx^2 + dy^2 <= radius^2.

    Beyond the image the mask continues as it is at the edge, so that objects there are not eroded from outside.
    """
    return dilate(~dilate(~mask, radius), radius)


def dilate(mask: Bool, radius: int) -> Bool:
    """Return the pixels within `radius` of a pixel of the mask."""
    if not mask.any():
        return mask
    dilated: Bool = ndimage.distance_transform_edt(~mask) <= radius
    return dilated


def fill_holes(mask: Bool) -> Bool:
    """Return the mask with its holes: background from which no 4-connected path leads to the image's edge."""
    parts, _ = ndimage.label(~mask)
    outside = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    is_filled = np.ones(int(parts.max(initial=0)) + 1, np.bool_)
    is_filled[outside] = False
    is_filled[0] = True  # the mask itself
    filled: Bool = is_filled[parts]
    return filled
