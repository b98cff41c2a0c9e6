"""How well two masks or maps cover each other, counted in pixels.

Everything here reads a table of how many pixels carry each pair of values, which is made once per image.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import Labels
from segserve.types import Bool

Int = NDArray[np.int64]
Float = NDArray[np.float64]

MAX_DIRECT_VALUE = 1 << 24  # up to this value a table says faster than sorting which values occur


@dataclass(frozen=True)
class ContingencyTable:
    """How often each pair of values occurs in two maps of one image.

    truth_ids [T], found_ids [F]: the values that occur, ascending. truth_areas [T], found_areas [F]: their
    pixels. rows, columns, counts [P]: positions in those, and the pixels with both values; only pairs that
    occur.
    """

    truth_ids: Int
    found_ids: Int
    truth_areas: Int
    found_areas: Int
    rows: Int
    columns: Int
    counts: Int


def count_value_pairs(truth: Labels, found: Labels, ignore: int | None = None) -> ContingencyTable:
    """Maps [H, W] of values from 0. Pixels where the truth is `ignore` count nowhere."""
    if ignore is not None:
        kept = truth != ignore
        truth, found = truth[kept], found[kept]
    truth_ids, rows = index_values(truth)
    found_ids, columns = index_values(found)
    height, width = len(truth_ids), len(found_ids)
    pairs = rows * width + columns
    if height * width <= max(MAX_DIRECT_VALUE, pairs.size):
        counted = np.bincount(pairs, minlength=height * width)
        occurring = np.flatnonzero(counted)
        counts = counted[occurring]
    else:
        occurring, counts = np.unique(pairs, return_counts=True)
    rows, columns = np.divmod(occurring, max(width, 1))
    areas = [
        np.bincount(positions, counts, size).astype(np.int64)
        for positions, size in ((rows, height), (columns, width))
    ]
    return ContingencyTable(truth_ids, found_ids, areas[0], areas[1], rows, columns, counts)


def index_values(values: NDArray[Any]) -> tuple[Int, Int]:
    """(the values that occur, ascending; each pixel's position among them, flat)."""
    flat = values.ravel()
    if flat.size and flat.max() >= MAX_DIRECT_VALUE:
        ids, positions = np.unique(flat, return_inverse=True)
        return ids.astype(np.int64), positions
    ids = np.flatnonzero(np.bincount(flat))
    lookup = np.zeros(int(ids[-1]) + 1 if ids.size else 0, np.int64)
    lookup[ids] = np.arange(len(ids))
    return ids, lookup[flat]


def ratio(part: float, whole: float, empty: float = 1.0) -> float:
    """part / whole, or `empty` where there is no whole."""
    return part / whole if whole else empty


def dice(truth: Bool, found: Bool) -> float:
    """Twice the intersection over the sum of the areas (F1 of the pixels), 0 to 1; empty masks as for `iou` of
    `masks.geometry`."""
    return ClassCounts.of(truth, found).dice


@dataclass(frozen=True)
class ClassCounts:
    """Pixels of one class: in both maps, in the truth, in what was found. Those of several images add up."""

    both: int = 0
    truth: int = 0
    found: int = 0

    @classmethod
    def of(cls, truth: Bool, found: Bool) -> "ClassCounts":
        return cls(*(int(np.count_nonzero(mask)) for mask in (truth & found, truth, found)))

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        return ClassCounts(self.both + other.both, self.truth + other.truth, self.found + other.found)

    @property
    def iou(self) -> float:
        """1 where the class occurs in neither map."""
        return ratio(self.both, self.truth + self.found - self.both)

    @property
    def dice(self) -> float:
        return ratio(2 * self.both, self.truth + self.found)


def count_classes(table: ContingencyTable) -> dict[int, ClassCounts]:
    """For each class that occurs in either map, ascending."""
    found: dict[int, ClassCounts] = {}
    both = {
        int(table.truth_ids[row]): int(count)
        for row, column, count in zip(table.rows, table.columns, table.counts, strict=True)
        if table.truth_ids[row] == table.found_ids[column]
    }
    truth = dict(zip(table.truth_ids.tolist(), table.truth_areas.tolist(), strict=True))
    seen = dict(zip(table.found_ids.tolist(), table.found_areas.tolist(), strict=True))
    for value in sorted(truth | seen):
        found[value] = ClassCounts(both.get(value, 0), truth.get(value, 0), seen.get(value, 0))
    return found


def mean_iou(counts: dict[int, ClassCounts]) -> float:
    """Over the classes that occur in either map, as scikit-learn's macro Jaccard score: a class that is nowhere
    says nothing. 1 where no pixel counts."""
    return float(np.mean([each.iou for each in counts.values()])) if counts else 1.0


def adjusted_rand_index(table: ContingencyTable) -> float:
    """Agreement of two partitions of the pixels, corrected for chance: 1 where they are the same, about 0 for
    chance, possibly below (Hubert and Arabie 1985). Background is a part like any other. 1 where fewer than
    two pixels count or where both maps are one part."""

    def pairs(areas: Int) -> float:
        sizes = areas.astype(np.float64)
        return float((sizes * (sizes - 1)).sum() / 2)

    together, truth, found = pairs(table.counts), pairs(table.truth_areas), pairs(table.found_areas)
    everything = pairs(table.counts.sum(keepdims=True))
    if together == truth == found:  # the same partition, where the formula may be 0 / 0
        return 1.0
    expected = truth * found / everything
    return (together - expected) / ((truth + found) / 2 - expected)
