"""Detections: the ids, centroids and areas of the objects of one frame. Linking needs these, and no pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import Labels
from segserve.types import Int64


@dataclass(frozen=True)
class Detections:
    """The n objects of one frame.

    ids: [n], ascending, as the frame's label map has them.
    centres: [n, 2] float64, (x, y) of the centroids in pixels.
    areas: [n], in pixels.
    """

    ids: Int64
    centres: NDArray[np.float64]
    areas: Int64

    @property
    def count(self) -> int:
        return len(self.ids)


def measure_detections(labels: Labels) -> Detections:
    """Measure the objects of a label map [H, W]."""
    rows, columns = np.nonzero(labels)
    ids, positions, areas = np.unique(labels[rows, columns], return_inverse=True, return_counts=True)
    sums = [np.bincount(positions, weights=axis, minlength=len(ids)) for axis in (columns, rows)]
    return Detections(ids.astype(np.int64), np.stack(sums, axis=1) / areas[:, None], areas.astype(np.int64))
