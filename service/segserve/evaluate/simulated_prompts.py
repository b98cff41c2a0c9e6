"""Prompts derived from the truth, and corrections derived from the error.

All in arrays [H, W] of one window; whoever cut the window out adds its place to the coordinates.
"""

import numpy as np

from segserve.evaluate.cli_choices import Correction
from segserve.masks.geometry import bounding_box, deepest_pixel
from segserve.types import Bool

Click = tuple[int, int, int]  # x, y, label: 1 on the object, 0 not

AROUND = 3  # pixels about an object's box in which μSAM looks for background


def random_pixel(mask: Bool, rng: np.random.Generator) -> tuple[int, int]:
    """(x, y) of any pixel of a mask that is not empty."""
    ys, xs = np.nonzero(mask)
    pick = int(rng.integers(len(ys)))
    return int(xs[pick]), int(ys[pick])


def correct(truth: Bool, found: Bool, how: Correction, rng: np.random.Generator) -> list[Click]:
    """The clicks that an annotator adds to `found`. The truth is not empty."""
    if how is Correction.DEEPEST:
        return [deepest_error(truth, found)]
    return [(*random_pixel(wanted(truth, found), rng), 1), *unwanted(truth, found, rng)]


def deepest_error(truth: Bool, found: Bool) -> Click:
    """Of what is missed, or of what is too much if that has more pixels; inside the truth where all is right."""
    missed, extra = truth & ~found, found & ~truth
    wrong, label = (missed, 1) if missed.sum() >= extra.sum() else (extra, 0)
    return (*deepest_pixel(wrong if wrong.any() else truth), label)


def wanted(truth: Bool, found: Bool) -> Bool:
    """Where a positive click goes: on what is missed; if nothing is, on what was found."""
    missed = truth & ~found
    return missed if missed.any() else truth


def unwanted(truth: Bool, found: Bool, rng: np.random.Generator) -> list[Click]:
    """A negative click on what is too much; if nothing is, on background in the object's box grown by 3 pixels;
    none where all of that is object."""
    x0, y0, x1, y1 = bounding_box(truth)
    around = np.zeros_like(truth)
    around[max(y0 - AROUND, 0) : y1 + AROUND, max(x0 - AROUND, 0) : x1 + AROUND] = True
    for background in (found & ~truth, around & ~truth):
        if background.any():
            return [(*random_pixel(background, rng), 0)]
    return []
