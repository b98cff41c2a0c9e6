"""Clean a mask as an annotator would: remove the parts that nothing marks (specks), fill small holes.

It works on low-res logits, before a mask is measured, upscaled or used as the next prompt. A removed part never touches
a kept one, so the outline of what is kept stays the same.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.masks.geometry import bounding_box
from segserve.types import Bool, Float32

# A click beside a part still marks it, within this distance: half an input patch of a ViT at 4 logits a patch.
MAX_MARK_DISTANCE = 2
# An earlier mask that covers this share of a part keeps it: an object in two parts stays in two parts.
MIN_PRIOR_SHARE = 0.5
# A hole is filled up to this share of its part's area.
MAX_HOLE_SHARE = 0.02


@dataclass(frozen=True)
class Marks:
    """`Marks` are what a prompt says about the object, in pixels of the low-res logits.

    positive, negative: points [N, 2] (x, y).
    box: (x0, y0, x1, y1), or None.
    prior: an earlier mask [h, w], or None.
    """

    positive: Float32 = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    negative: Float32 = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    box: tuple[float, float, float, float] | None = None
    prior: Bool | None = None


@dataclass(frozen=True)
class CleanedLogits:
    """`CleanedLogits` are the logits [h, w] of a cleaned mask, and how many parts and holes it has no more."""

    logits: Float32
    removed_parts: int
    filled_holes: int


def clean_logits(logits: Float32, threshold: float, marks: Marks) -> CleanedLogits:
    """Return the logits without unmarked parts and small holes.

    logits: [h, w] float32. threshold: above it a logit is of the mask.

    Parts are 4-connected. Those that hold a positive point are kept, and those that an earlier mask covers by
    MIN_PRIOR_SHARE. If there are none, the part with the largest overlap with the box or the earlier mask is kept; if
    there is neither, the largest part. A hole is filled unless a negative point is in it. Logits that change side are
    mirrored at the threshold.
    """
    mask = logits > threshold
    x0, y0, x1, y1 = bounding_box(mask)
    if x0 == x1:
        return CleanedLogits(logits, 0, 0)
    inside = mask[y0:y1, x0:x1]
    labels, count = ndimage.label(inside)
    kept = choose_parts(labels, count, marks, x0, y0) if count > 1 else np.ones(2, np.bool_)
    kept[0] = False
    object_mask = kept[labels]
    holes = find_small_holes(object_mask, marks.negative - np.array([x0, y0], np.float32))
    changed = (inside & ~object_mask) | holes.mask
    if not changed.any():
        return CleanedLogits(logits, 0, 0)
    cleaned = logits.copy()
    window = cleaned[y0:y1, x0:x1]
    mirrored = np.float32(2 * threshold) - window[changed]
    # One step further: a hole's logit may be the threshold itself.
    window[changed] = np.nextafter(
        mirrored, np.where(holes.mask[changed], np.float32(np.inf), -np.float32(np.inf))
    )
    return CleanedLogits(cleaned, int(count - kept.sum()), holes.count)


def choose_parts(labels: NDArray[np.integer[Any]], count: int, marks: Marks, x0: int, y0: int) -> Bool:
    """Return [count + 1]: whether each part is kept. labels [h, w]: the parts, from 1. (x0, y0): of its corner."""
    kept = np.zeros(count + 1, np.bool_)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    for x, y in marks.positive - [x0, y0]:
        kept[find_marked_part(labels, float(x), float(y))] = True
    overlaps = areas
    if marks.prior is not None:
        prior = marks.prior[y0 : y0 + labels.shape[0], x0 : x0 + labels.shape[1]]
        overlaps = np.bincount(labels[prior], minlength=count + 1)
        kept |= overlaps >= MIN_PRIOR_SHARE * areas
    elif marks.box is not None:
        corner = np.array([x0, y0])
        left, top = np.maximum(0, np.floor(marks.box[:2] - corner).astype(int))
        right, bottom = np.maximum(0, np.ceil(marks.box[2:] - corner).astype(int))
        overlaps = np.bincount(labels[top:bottom, left:right].ravel(), minlength=count + 1)
    if not kept[1:].any():
        chosen = overlaps if overlaps[1:].any() else areas
        kept[1 + int(chosen[1:].argmax())] = True
    return kept


def find_marked_part(labels: NDArray[np.integer[Any]], x: float, y: float) -> int:
    """Return the part at a point, or the nearest within MAX_MARK_DISTANCE; 0 if there is none."""
    column, row = int(np.floor(x)), int(np.floor(y))
    height, width = labels.shape
    if 0 <= row < height and 0 <= column < width and labels[row, column]:
        return int(labels[row, column])
    rows = np.arange(max(0, row - MAX_MARK_DISTANCE), min(height, row + MAX_MARK_DISTANCE + 1))
    columns = np.arange(max(0, column - MAX_MARK_DISTANCE), min(width, column + MAX_MARK_DISTANCE + 1))
    near = labels[rows[:, None], columns]
    if not near.any():
        return 0
    distances = np.hypot(rows[:, None] + 0.5 - y, columns + 0.5 - x)
    return int(near.flat[np.where(near > 0, distances, np.inf).argmin()])


@dataclass(frozen=True)
class Holes:
    mask: Bool
    count: int


def find_small_holes(mask: Bool, negative: Float32) -> Holes:
    """Return the holes of `mask` [h, w] of at most MAX_HOLE_SHARE of its area. negative: points that keep a hole."""
    background, count = ndimage.label(~np.pad(mask, 1), np.ones((3, 3)))
    if count == 1:
        return Holes(np.zeros(mask.shape, np.bool_), 0)
    small = np.bincount(background.ravel()) <= MAX_HOLE_SHARE * np.count_nonzero(mask)
    small[[0, background[0, 0]]] = False
    for x, y in np.floor(negative).astype(int) + 1:
        if 0 <= y < background.shape[0] and 0 <= x < background.shape[1]:
            small[background[y, x]] = False
    return Holes(small[background][1:-1, 1:-1], int(small.sum()))
