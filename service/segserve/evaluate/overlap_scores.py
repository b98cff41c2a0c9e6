"""Overlap of two maps, counted in pixels: Dice, IoU of classes, mean IoU, adjusted Rand index.

All of them but `dice` read the contingency table of the two maps, which is computed once for an image.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import Labels
from segserve.types import Bool, Int64

Float64 = NDArray[np.float64]

# Up to this value a lookup table finds the values that occur faster than sorting does.
MAX_DIRECT_VALUE = 1 << 24


@dataclass(frozen=True)
class ContingencyTable:
    """How many pixels carry each pair of values in two maps of one image.

    truth_ids [T], prediction_ids [P]: the values that occur, ascending.
    truth_areas [T], prediction_areas [P]: the number of pixels of each.
    rows, columns, counts [N]: one entry for each pair that occurs: its positions in the two id arrays, its pixels.
    """

    truth_ids: Int64
    prediction_ids: Int64
    truth_areas: Int64
    prediction_areas: Int64
    rows: Int64
    columns: Int64
    counts: Int64


def build_contingency_table(truth: Labels, prediction: Labels, ignore: int | None = None) -> ContingencyTable:
    """Count the pairs of values in two maps [H, W] of values from 0.

    Pixels where the truth is `ignore` are left out.
    """
    if ignore is not None:
        kept = truth != ignore
        truth, prediction = truth[kept], prediction[kept]
    truth_ids, rows = index_values(truth)
    prediction_ids, columns = index_values(prediction)
    height, width = len(truth_ids), len(prediction_ids)
    pairs = rows * width + columns
    if height * width <= max(MAX_DIRECT_VALUE, pairs.size):
        all_counts = np.bincount(pairs, minlength=height * width)
        occurring = np.flatnonzero(all_counts)
        counts = all_counts[occurring]
    else:
        occurring, counts = np.unique(pairs, return_counts=True)
    rows, columns = np.divmod(occurring, max(width, 1))
    areas = [
        np.bincount(positions, counts, size).astype(np.int64)
        for positions, size in ((rows, height), (columns, width))
    ]
    return ContingencyTable(truth_ids, prediction_ids, areas[0], areas[1], rows, columns, counts)


def index_values(values: NDArray[Any]) -> tuple[Int64, Int64]:
    """Return (the values that occur, ascending; for each pixel, flat, its position among them)."""
    flat = values.ravel()
    if flat.size and flat.max() >= MAX_DIRECT_VALUE:
        ids, positions = np.unique(flat, return_inverse=True)
        return ids.astype(np.int64), positions
    ids = np.flatnonzero(np.bincount(flat))
    lookup = np.zeros(int(ids[-1]) + 1 if ids.size else 0, np.int64)
    lookup[ids] = np.arange(len(ids))
    return ids, lookup[flat]


def ratio(part: float, whole: float, empty: float = 1.0) -> float:
    """Return part / whole, or `empty` where the whole is 0."""
    return part / whole if whole else empty


def dice(truth: Bool, prediction: Bool) -> float:
    """Return the Dice score of two masks (F1 of their pixels), from 0 to 1.

    It is twice the intersection over the sum of the areas. Two empty masks score 1, one empty mask scores 0.
    """
    return ClassCounts.from_masks(truth, prediction).dice


@dataclass(frozen=True)
class ClassCounts:
    """Pixels of one class: in both maps, in the truth, in the prediction. Counts of several images add up."""

    intersection: int = 0
    truth: int = 0
    prediction: int = 0

    @classmethod
    def from_masks(cls, truth: Bool, prediction: Bool) -> "ClassCounts":
        return cls(*(int(np.count_nonzero(mask)) for mask in (truth & prediction, truth, prediction)))

    def __add__(self, other: "ClassCounts") -> "ClassCounts":
        return ClassCounts(
            self.intersection + other.intersection,
            self.truth + other.truth,
            self.prediction + other.prediction,
        )

    @property
    def iou(self) -> float:
        """Intersection over union; 1 where the class occurs in neither map."""
        return ratio(self.intersection, self.truth + self.prediction - self.intersection)

    @property
    def dice(self) -> float:
        """Dice score; 1 where the class occurs in neither map."""
        return ratio(2 * self.intersection, self.truth + self.prediction)


def count_classes(table: ContingencyTable) -> dict[int, ClassCounts]:
    """Return the counts of each class that occurs in either map, by class, ascending."""
    intersections = {
        int(table.truth_ids[row]): int(count)
        for row, column, count in zip(table.rows, table.columns, table.counts, strict=True)
        if table.truth_ids[row] == table.prediction_ids[column]
    }
    truth = dict(zip(table.truth_ids.tolist(), table.truth_areas.tolist(), strict=True))
    prediction = dict(zip(table.prediction_ids.tolist(), table.prediction_areas.tolist(), strict=True))
    return {
        value: ClassCounts(intersections.get(value, 0), truth.get(value, 0), prediction.get(value, 0))
        for value in sorted(truth | prediction)
    }


def mean_iou(counts: dict[int, ClassCounts]) -> float:
    """Return the mean IoU over the classes that occur in either map, as scikit-learn's macro Jaccard score.

    A class that occurs in neither map is left out. Without any class the result is 1.
    """
    return float(np.mean([each.iou for each in counts.values()])) if counts else 1.0


def adjusted_rand_index(table: ContingencyTable) -> float:
    """Return the adjusted Rand index: the agreement of two partitions of the pixels, corrected for chance.

    1 means the same partition, about 0 means chance; values below 0 are possible (Hubert and Arabie 1985).
    Background is a part like any other. The result is 1 where fewer than two pixels count, and where both maps
    are one part.
    """

    def count_pairs(areas: Int64) -> float:
        sizes = areas.astype(np.float64)
        return float((sizes * (sizes - 1)).sum() / 2)

    together = count_pairs(table.counts)
    truth, prediction = count_pairs(table.truth_areas), count_pairs(table.prediction_areas)
    everything = count_pairs(table.counts.sum(keepdims=True))
    if together == truth == prediction:  # the same partition, where the formula may be 0 / 0
        return 1.0
    expected = truth * prediction / everything
    return (together - expected) / ((truth + prediction) / 2 - expected)
