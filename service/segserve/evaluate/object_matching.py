"""Which objects were found: one-to-one matching of label maps, and the scores that count it.

As stardist's `matching` and, after it, elf's (which μSAM evaluates with) define it: of all ways to pair objects of
the truth with found ones, each in one pair at most, that with the most pairs of an IoU of at least t counts. Its
pairs are true positives, the other found objects false positives, the other true ones false negatives. Unlike
theirs, SA is 1 rather than 0 where there is no object and none was found, and t = 0.6 means 0.6: `np.arange`
gives elf 0.6000000000000001.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from segserve.evaluate.overlap_scores import ContingencyTable, Float, Int, ratio

BACKGROUND = 0
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
AT_50, AT_75 = THRESHOLDS.index(0.5), THRESHOLDS.index(0.75)


@dataclass(frozen=True)
class ObjectOverlaps:
    """Objects of two label maps of one image: how many, and the pairs that share pixels: positions among each,
    rows and columns [P], with their IoU [P]."""

    truths: int
    found: int
    rows: Int
    columns: Int
    iou: Float


@dataclass(frozen=True)
class MatchCounts:
    """Objects matched at an IoU of at least `threshold`. Those of several images add up."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def accuracy(self) -> float:
        """Segmentation accuracy SA(t) = TP / (TP + FP + FN), the average precision of the Data Science Bowl
        2018. 1 where there is no object and none was found; 0 where one map is empty."""
        return ratio(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """1 where nothing was found and nothing was there, 0 where only nothing was found."""
        found = self.true_positives + self.false_positives
        return ratio(self.true_positives, found, float(self.false_negatives == 0))

    @property
    def recall(self) -> float:
        """1 where nothing was there and nothing was found, 0 where only nothing was there."""
        truths = self.true_positives + self.false_negatives
        return ratio(self.true_positives, truths, float(self.false_positives == 0))

    @property
    def f1(self) -> float:
        return ratio(
            2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives
        )


def find_overlaps(table: ContingencyTable) -> ObjectOverlaps:
    """Of label maps, where 0 is background."""
    union = table.truth_areas[table.rows] + table.found_areas[table.columns] - table.counts
    first_truth = int(table.truth_ids[:1].tolist() == [BACKGROUND])
    first_found = int(table.found_ids[:1].tolist() == [BACKGROUND])
    objects = (table.rows >= first_truth) & (table.columns >= first_found)
    return ObjectOverlaps(
        len(table.truth_ids) - first_truth,
        len(table.found_ids) - first_found,
        table.rows[objects] - first_truth,
        table.columns[objects] - first_found,
        table.counts[objects] / union[objects],
    )


def match_objects(pairs: ObjectOverlaps, threshold: float) -> MatchCounts:
    """threshold: above 0, at most 1. Near-linear: only pairs that touch are looked at (Hopcroft and Karp)."""
    enough = pairs.iou >= threshold
    rows, columns = pairs.rows[enough], pairs.columns[enough]
    graph = csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(pairs.truths, pairs.found))
    partners = maximum_bipartite_matching(graph, perm_type="column") if len(rows) else np.empty(0)
    hits = int(np.count_nonzero(partners >= 0))
    return MatchCounts(threshold, hits, pairs.found - hits, pairs.truths - hits)


def match_at_thresholds(
    pairs: ObjectOverlaps, thresholds: Iterable[float] = THRESHOLDS
) -> tuple[MatchCounts, ...]:
    return tuple(match_objects(pairs, threshold) for threshold in thresholds)


def mean_segmentation_accuracy(matched: Sequence[MatchCounts]) -> float:
    """mSA: the mean of SA over the thresholds that were matched at, by default 0.5 to 0.95 by 0.05."""
    return float(np.mean([each.accuracy for each in matched]))


def pool_match_counts(images: Sequence[Sequence[MatchCounts]]) -> tuple[MatchCounts, ...]:
    """The objects of several images as if they were one image's, each threshold for itself."""
    return tuple(
        MatchCounts(
            column[0].threshold,
            sum(each.true_positives for each in column),
            sum(each.false_positives for each in column),
            sum(each.false_negatives for each in column),
        )
        for column in zip(*images, strict=True)
    )
