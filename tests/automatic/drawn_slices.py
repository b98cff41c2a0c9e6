"""Slices [Z, H, W] of drawn cells, with ids of each slice alone."""

import numpy as np
from numpy.typing import NDArray

UInt32 = NDArray[np.uint32]


def disc(x: float, y: float, radius: float, height: int = 60, width: int = 80) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def drawn_slices(count: int, seed: int, missed: float = 0.1) -> UInt32:
    """Draw ellipsoids that shift from slice to slice, later ones over earlier ones.

    missed: the share of slices that miss an ellipsoid.
    """
    random = np.random.default_rng(seed)
    slices = np.zeros((12, 90, 110), np.uint32)
    for number in range(1, count + 1):
        z, y, x = random.uniform(0, slices.shape)
        radius, reach = random.uniform(3, 12), random.uniform(1, 5)
        for index, each in enumerate(slices):
            part = 1 - ((index - z) / reach) ** 2
            if part > 0 and random.random() >= missed:
                dy, dx = random.normal(size=2)
                each[disc(x + dx, y + dy, radius * part**0.5, *each.shape)] = number
    return slices


def canonical(labels: NDArray[np.integer]) -> UInt32:
    """Return the same objects, numbered in the order in which they occur."""
    ids, first, inverse = np.unique(np.append(0, labels), return_index=True, return_inverse=True)
    rank = np.empty(len(ids), np.uint32)
    rank[np.argsort(first)] = np.arange(len(ids))
    return rank[inverse][1:].reshape(labels.shape)
