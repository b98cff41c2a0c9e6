"""What linking needs to know of a frame: where its objects are, not their pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import Labels
from segserve.types import Int64


@dataclass(frozen=True)
class Detections:
    """The n objects of one frame. ids [n], ascending, as its label map has them. centres [n, 2] float64: (x, y) of
    their centroids, pixels. areas [n], pixels."""

    ids: Int64
    centres: NDArray[np.float64]
    areas: Int64

    @property
    def count(self) -> int:
        return len(self.ids)


def measure_detections(labels: Labels) -> Detections:
    """Of a label map [H, W]."""
    rows, columns = np.nonzero(labels)
    ids, member, areas = np.unique(labels[rows, columns], return_inverse=True, return_counts=True)
    sums = [np.bincount(member, weights=each, minlength=len(ids)) for each in (columns, rows)]
    return Detections(ids.astype(np.int64), np.stack(sums, axis=1) / areas[:, None], areas.astype(np.int64))
