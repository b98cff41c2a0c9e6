"""One-to-one matching of the objects of two label maps, and its scores: segmentation accuracy (mSA), precision,
recall, F1.

The definitions are those of stardist's `matching` and, after it, of elf, which micro-sam evaluates with. Truth and
predicted objects are paired, each in one pair at most, so that the number of pairs with an IoU of at least t is as
large as possible. These pairs are the true positives (TP), unpaired predicted objects are false positives (FP),
unpaired true objects are false negatives (FN).

Two details differ. SA is 1 rather than 0 where there is no object and none was predicted. And t = 0.6 means 0.6:
elf has 0.6000000000000001 there, from `np.arange`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from segserve.evaluate.overlap_scores import ContingencyTable, Float64, build_contingency_table, ratio
from segserve.masks.label_map import Labels
from segserve.types import Int64

BACKGROUND = 0
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
AT_50, AT_75 = IOU_THRESHOLDS.index(0.5), IOU_THRESHOLDS.index(0.75)


@dataclass(frozen=True)
class ObjectOverlaps:
    """The pairs of objects of two label maps that share pixels.

    truth_objects, predicted_objects: the number of objects in each map.
    rows, columns [N]: the position of each pair's objects, in the truth and in the prediction, by ascending id.
    iou [N]: the IoU of each pair.
    """

    truth_objects: int
    predicted_objects: int
    rows: Int64
    columns: Int64
    iou: Float64


@dataclass(frozen=True)
class MatchCounts:
    """The number of objects that match, and that do not, at an IoU of at least `threshold`.

    Counts of several images at one threshold add up.
    """

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def accuracy(self) -> float:
        """Segmentation accuracy SA(t) = TP / (TP + FP + FN), the average precision of the Data Science Bowl 2018.

        1 where neither map has an object, 0 where one map has none.
        """
        return ratio(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """TP / (TP + FP). Without predicted objects: 1 if there is no true object, else 0."""
        predicted = self.true_positives + self.false_positives
        return ratio(self.true_positives, predicted, float(self.false_negatives == 0))

    @property
    def recall(self) -> float:
        """TP / (TP + FN). Without true objects: 1 if there is no predicted object, else 0."""
        true_objects = self.true_positives + self.false_negatives
        return ratio(self.true_positives, true_objects, float(self.false_positives == 0))

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return ratio(
            2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives
        )


def match_label_maps(truth: Labels, prediction: Labels) -> tuple[MatchCounts, ...]:
    """Match the objects of two label maps [H, W] at every threshold of `IOU_THRESHOLDS`."""
    return match_at_thresholds(find_overlaps(build_contingency_table(truth, prediction)))


def find_overlaps(table: ContingencyTable) -> ObjectOverlaps:
    """Return the pairs of objects that share pixels. Value 0 of either map is background."""
    union = table.truth_areas[table.rows] + table.prediction_areas[table.columns] - table.counts
    first_truth = int(table.truth_ids[:1].tolist() == [BACKGROUND])
    first_predicted = int(table.prediction_ids[:1].tolist() == [BACKGROUND])
    objects = (table.rows >= first_truth) & (table.columns >= first_predicted)
    return ObjectOverlaps(
        len(table.truth_ids) - first_truth,
        len(table.prediction_ids) - first_predicted,
        table.rows[objects] - first_truth,
        table.columns[objects] - first_predicted,
        table.counts[objects] / union[objects],
    )


def match_objects(overlaps: ObjectOverlaps, threshold: float) -> MatchCounts:
    """Match at one IoU threshold, above 0 and at most 1.

    The time is near-linear in the number of overlapping pairs (Hopcroft and Karp); other pairs cost nothing.
    """
    eligible = overlaps.iou >= threshold
    rows, columns = overlaps.rows[eligible], overlaps.columns[eligible]
    shape = (overlaps.truth_objects, overlaps.predicted_objects)
    graph = csr_array((np.ones(len(rows), np.int8), (rows, columns)), shape=shape)
    partners = maximum_bipartite_matching(graph, perm_type="column") if len(rows) else np.empty(0)
    matched = int(np.count_nonzero(partners >= 0))
    return MatchCounts(
        threshold,
        true_positives=matched,
        false_positives=overlaps.predicted_objects - matched,
        false_negatives=overlaps.truth_objects - matched,
    )


def match_at_thresholds(
    overlaps: ObjectOverlaps, thresholds: Iterable[float] = IOU_THRESHOLDS
) -> tuple[MatchCounts, ...]:
    """Match at each of the IoU thresholds, in their order."""
    return tuple(match_objects(overlaps, threshold) for threshold in thresholds)


def mean_segmentation_accuracy(matches: Sequence[MatchCounts]) -> float:
    """Return mSA: the mean of SA over the thresholds of `matches`, by default 0.5 to 0.95 in steps of 0.05."""
    return float(np.mean([each.accuracy for each in matches]))


def pool_match_counts(images: Sequence[Sequence[MatchCounts]]) -> tuple[MatchCounts, ...]:
    """Add up the counts of several images, threshold by threshold, as if they were one image."""
    return tuple(
        MatchCounts(
            column[0].threshold,
            sum(each.true_positives for each in column),
            sum(each.false_positives for each in column),
            sum(each.false_negatives for each in column),
        )
        for column in zip(*images, strict=True)
    )
