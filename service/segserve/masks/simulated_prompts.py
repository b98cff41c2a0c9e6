"""Simulated prompts: the clicks and boxes that an annotator would give, made from a ground-truth mask.

Training and evaluation share these functions. All masks are arrays [H, W] bool, of an image or of a window of it.
Coordinates are (x, y) in pixels of that array.
"""

import numpy as np

from segserve.masks.geometry import bounding_box, deepest_pixel
from segserve.types import Bool, Float32

Click = tuple[int, int, int]  # (x, y, label): 1 on the object, 0 on background

BACKGROUND_MARGIN_PX = 3  # micro-sam looks for background in the object's box grown by so much
MAX_BOX_JITTER_PX = 20.0  # SAM's rule, as is the share
BOX_JITTER_SHARE = 0.1  # standard deviation, over the box's width or height


def random_pixel(mask: Bool, rng: np.random.Generator) -> tuple[int, int]:
    """Return (x, y) of a random pixel of a mask that is not empty."""
    ys, xs = np.nonzero(mask)
    pick = int(rng.integers(len(ys)))
    return int(xs[pick]), int(ys[pick])


def click_random_error(truth: Bool, prediction: Bool, rng: np.random.Generator) -> Click:
    """Click a random wrong pixel, missed or excess; without errors, a random pixel of the truth.

    The truth is not empty.
    """
    wrong = truth ^ prediction
    x, y = random_pixel(wrong if wrong.any() else truth, rng)
    return x, y, int(truth[y, x])


def click_deepest_error(truth: Bool, prediction: Bool) -> Click:
    """Click the deepest pixel of the larger error: of the missed pixels or of the excess pixels.

    Without errors it is the deepest pixel of the truth, which is not empty.
    """
    missed, excess = truth & ~prediction, prediction & ~truth
    error, label = (missed, 1) if missed.sum() >= excess.sum() else (excess, 0)
    return (*deepest_pixel(error if error.any() else truth), label)


def click_both_errors(truth: Bool, prediction: Bool, rng: np.random.Generator) -> list[Click]:
    """Return a positive click on a random missed pixel, then a negative click on a random excess pixel.

    Without missed pixels the positive click lies on the truth, which is not empty. Without excess pixels the negative
    click lies on background near the object; where there is none, it is left out. These are the rules of micro-sam's
    `IterativePromptGenerator`.
    """
    missed, excess = truth & ~prediction, prediction & ~truth
    clicks = [(*random_pixel(missed if missed.any() else truth, rng), 1)]
    background = excess if excess.any() else find_background_near(truth)
    if background.any():
        clicks.append((*random_pixel(background, rng), 0))
    return clicks


def find_background_near(truth: Bool) -> Bool:
    """Return the pixels [H, W] outside the object that lie in its bounding box grown by `BACKGROUND_MARGIN_PX`."""
    x0, y0, x1, y1 = bounding_box(truth)
    margin = BACKGROUND_MARGIN_PX
    near = np.zeros_like(truth)
    near[max(y0 - margin, 0) : y1 + margin, max(x0 - margin, 0) : x1 + margin] = True
    return near & ~truth


def jitter_box(box: tuple[int, int, int, int], limit: int, rng: np.random.Generator) -> Float32:
    """Return the box [4] (x0, y0, x1, y1) as a hasty annotator draws it (SAM's rule).

    Each side moves by a random part of the box's size, at most `MAX_BOX_JITTER_PX`.
    limit: the edge of the square array, in pixels; the result stays in it.
    """
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    offsets = rng.normal(0, BOX_JITTER_SHARE, 4) * sides
    moved = np.add(box, np.clip(offsets, -MAX_BOX_JITTER_PX, MAX_BOX_JITTER_PX))
    jittered: Float32 = np.clip(moved, 0, limit).astype(np.float32)
    return jittered
