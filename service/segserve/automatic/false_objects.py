"""Removal of what is no object of a volume: specks, and objects that hardly differ from what is around them.

Light from above and below a cell makes a pale copy of it on other slices, and noise makes specks on single ones. Both
are small or pale beside the other objects of the volume.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segserve.types import Float32, Int64

UInt32 = NDArray[np.uint32]


@dataclass
class ObjectTotals:
    """`ObjectTotals` sums up what the slices show of the objects of a volume, numbered from 1 to `count`.

    voxels: [count + 1]. slices: [count + 1], on how many slices each is.
    contrasts: [count + 1, 3], sums weighted by voxels; see `projection.object_evidence`.
    measured: [count + 1], the voxels whose contrast is known.
    """

    count: int
    voxels: Int64 = field(init=False)
    slices: Int64 = field(init=False)
    contrasts: NDArray[np.float64] = field(init=False)
    measured: Int64 = field(init=False)

    def __post_init__(self) -> None:
        self.voxels, self.slices, self.measured = (np.zeros(self.count + 1, np.int64) for _ in range(3))
        self.contrasts = np.zeros((self.count + 1, 3))

    def add_slice(self, joined: UInt32, labels: NDArray[np.integer], contrasts: Float32 | None) -> None:
        """Add a slice: its objects in the volume [H, W], and its own label map, whose objects have contrasts [n, 3]."""
        sizes = np.bincount(joined.ravel(), minlength=self.count + 1)
        self.voxels += sizes
        self.slices += sizes > 0
        if contrasts is None:
            return
        rows, columns = np.nonzero(labels)
        ids, positions = np.unique(labels[rows, columns], return_inverse=True)
        # Closing gaps moves borders, so a slice's object may be in several of the volume. It counts in each.
        pairs, sizes = np.unique(
            np.stack([joined[rows, columns], positions.astype(np.uint32)], axis=1), axis=0, return_counts=True
        )
        assert len(ids) == len(contrasts)
        np.add.at(self.measured, pairs[:, 0], sizes)
        np.add.at(self.contrasts, pairs[:, 0], contrasts[pairs[:, 1]] * sizes[:, None])


def find_false_objects(totals: ObjectTotals, min_size_share: float, min_contrast: float) -> NDArray[np.bool_]:
    """Return which objects are none, [count + 1]; the background is never one.

    min_size_share: an object has at least this part of the median object's voxels.
    min_contrast: an object has at least this part of the median object's contrast, in its direction.
    Objects on one slice do not count for the medians, where there are others.
    """
    if not totals.count:
        return np.zeros(1, np.bool_)
    is_typical = totals.slices > 1
    is_typical[0] = False
    if not is_typical.any():
        is_typical[1:] = True
    is_false = totals.voxels < min_size_share * np.median(totals.voxels[is_typical])
    if min_contrast > 0:
        means = totals.contrasts / np.maximum(totals.measured, 1)[:, None]
        typical = np.median(means[is_typical], axis=0)
        if squared := float(typical @ typical):
            is_false |= (totals.measured > 0) & (means @ typical < min_contrast * squared)
    is_false[0] = False
    return np.asarray(is_false)


def build_removal_table(is_false: NDArray[np.bool_]) -> UInt32:
    """Return the table [count + 1] from ids to ids without the false objects; 1 to n in order."""
    kept = ~is_false
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
