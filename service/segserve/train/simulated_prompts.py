"""Prompts made from the truth: the first click or box, then corrective clicks from the error."""

import numpy as np
from numpy.typing import NDArray

from segserve.masks.geometry import deepest_pixel

Mask = NDArray[np.bool_]


def random_pixel(mask: Mask, rng: np.random.Generator) -> tuple[int, int]:
    """(x, y) of a random pixel of the mask, which is not empty."""
    ys, xs = np.nonzero(mask)
    pick = rng.integers(len(ys))
    return int(xs[pick]), int(ys[pick])


def corrective_click(truth: Mask, found: Mask, rng: np.random.Generator | None) -> tuple[int, int, int]:
    """(x, y, label): a pixel that `found` has wrong, 1 where it misses, 0 where it covers too much.

    With `rng` a random wrong pixel, as in training; without, the deepest pixel of the larger kind of error,
    as in judging. Where nothing is wrong, a click inside the truth.
    """
    missed, extra = truth & ~found, found & ~truth
    if rng is None:
        wrong, label = (missed, 1) if missed.sum() >= extra.sum() else (extra, 0)
        return (*deepest_pixel(wrong if wrong.any() else truth), label)
    wrong = missed | extra
    x, y = random_pixel(wrong if wrong.any() else truth, rng)
    return x, y, int(truth[y, x])


def jitter_box(box: tuple[int, int, int, int], limit: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """The box as a hasty hand draws it: each side off by a tenth of the size, 20 px at most (SAM's rule)."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    moved = np.add(box, np.clip(rng.normal(0, 0.1, 4) * sides, -20, 20))
    return np.clip(moved, 0, limit).astype(np.float32)
