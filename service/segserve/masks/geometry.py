"""Measures of binary masks [H, W] that many parts of the service need: overlap (IoU), bounding box, deepest pixel."""

import numpy as np
from scipy import ndimage

from segserve.types import Bool


def iou(first: Bool, second: Bool) -> float:
    """Return the intersection over union (Jaccard index) of two masks of one shape, from 0 to 1.

    Two empty masks agree: 1. One empty mask and one that is not: 0.
    """
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 1.0


def bounding_box(mask: Bool) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) in pixels, the smallest box around the ones of `mask` [H, W].

    x1 and y1 are exclusive: `mask[y0:y1, x0:x1]` holds all ones. An empty mask gives (0, 0, 0, 0).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def deepest_pixel(mask: Bool) -> tuple[int, int]:
    """Return (x, y) of the pixel of `mask` [H, W] with the largest Euclidean distance to the nearest pixel outside.

    Distances are exact. Everything beyond the array counts as outside. Of several deepest pixels the first in
    reading order (row by row) is returned. Raises ValueError for an empty mask, which has no such pixel.
    """
    x0, y0, x1, y1 = bounding_box(mask)
    if x0 == x1:
        raise ValueError("an empty mask has no deepest pixel")
    # The distance transform costs time for every pixel it gets, and none outside the box changes the result.
    depth = ndimage.distance_transform_edt(np.pad(mask[y0:y1, x0:x1], 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x) + x0, int(y) + y0
