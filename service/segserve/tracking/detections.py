"""Detections: what is known of the objects of one frame. Linking needs these, and no pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import Labels
from segserve.types import Float32, Int64

# Objects with a gap of one pixel between them touch too: a watershed may leave one.
CONTACT_REACH_PX = 2


@dataclass(frozen=True)
class Contacts:
    """Which objects of a frame touch.

    pairs: [k, 2], positions in the frame's detections, the lower one first; each pair once.
    lengths: [k], of the border that they share, in pixels.
    """

    pairs: Int64
    lengths: NDArray[np.float64]


NO_CONTACTS = Contacts(np.zeros((0, 2), np.int64), np.zeros(0))


@dataclass(frozen=True)
class Detections:
    """The n objects of one frame.

    ids: [n], ascending, as the frame's label map has them.
    centres: [n, 2] float64, (x, y) of the centroids in pixels.
    areas: [n], in pixels.
    contacts: which of them touch.
    descriptors: [n, C], see `decode.object_descriptor`; None where they were not measured.
    contrasts: [n, 3], see `projection.object_evidence`; None where they were not measured.
    """

    ids: Int64
    centres: NDArray[np.float64]
    areas: Int64
    contacts: Contacts = NO_CONTACTS
    descriptors: Float32 | None = None
    contrasts: Float32 | None = None

    @property
    def count(self) -> int:
        return len(self.ids)


def measure_detections(labels: Labels) -> Detections:
    """Measure the objects of a label map [H, W]."""
    rows, columns = np.nonzero(labels)
    ids, positions, areas = np.unique(labels[rows, columns], return_inverse=True, return_counts=True)
    sums = [np.bincount(positions, weights=axis, minlength=len(ids)) for axis in (columns, rows)]
    return Detections(
        ids.astype(np.int64),
        np.stack(sums, axis=1) / areas[:, None],
        areas.astype(np.int64),
        measure_contacts(labels, ids),
    )


def measure_contacts(labels: Labels, ids: NDArray[np.integer]) -> Contacts:
    """Find the objects of a label map [H, W] that touch. ids: of its objects, ascending."""
    reach, found = CONTACT_REACH_PX, []
    for before, after in ((labels[:, :-reach], labels[:, reach:]), (labels[:-reach], labels[reach:])):
        rows, columns = np.nonzero((before != after) & (before > 0) & (after > 0))
        found.append(np.stack([before[rows, columns], after[rows, columns]], axis=1))
    both = np.sort(np.concatenate(found), axis=1)
    if not len(both):
        return NO_CONTACTS
    pairs, counts = np.unique(both, axis=0, return_counts=True)
    # Two pixels before a border and two after it make two such pairs.
    return Contacts(np.searchsorted(ids, pairs).astype(np.int64), counts / reach)
