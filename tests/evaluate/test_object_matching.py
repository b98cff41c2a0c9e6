"""Objects are matched, and the matches scored, as stardist does it."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from segserve.evaluate.object_matching import (
    IOU_THRESHOLDS,
    MatchCounts,
    find_overlaps,
    match_label_maps,
    match_objects,
    mean_segmentation_accuracy,
    pool_match_counts,
)
from segserve.evaluate.overlap_scores import build_contingency_table
from tests.evaluate.drawn_labels import Labels, draw_scene

# stardist 0.9.2's `matching` of draw_scene(0), draw_scene(1) and draw_scene(2): TP, FP, FN at each threshold.
STARDIST = (
    [(14, 7, 9), (13, 8, 10), (9, 12, 14), (7, 14, 16), (7, 14, 16), (6, 15, 17), (6, 15, 17), (6, 15, 17),
     (5, 16, 18), (5, 16, 18)],
    [(9, 9, 13), (8, 10, 14), (6, 12, 16), (5, 13, 17), (5, 13, 17), (4, 14, 18), (1, 17, 21), (1, 17, 21),
     (1, 17, 21), (1, 17, 21)],
    [(12, 5, 9), (12, 5, 9), (11, 6, 10), (10, 7, 11), (8, 9, 13), (7, 10, 14), (4, 13, 17), (4, 13, 17),
     (4, 13, 17), (4, 13, 17)],
)  # fmt: skip


def match_at(truth: Labels, prediction: Labels, threshold: float, ignore: int | None = None) -> MatchCounts:
    return match_objects(find_overlaps(build_contingency_table(truth, prediction, ignore)), threshold)


def counts(each: MatchCounts) -> tuple[int, int, int]:
    return each.true_positives, each.false_positives, each.false_negatives


def count_true_positives(truth: Labels, prediction: Labels, threshold: float) -> int:
    """Return the largest number of pairs of an IoU of at least `threshold` in any one-to-one matching."""
    true_ids, predicted_ids = (np.unique(each[each > 0]) for each in (truth, prediction))
    scores = np.array(
        [
            [
                ((truth == t) & (prediction == f)).sum() / ((truth == t) | (prediction == f)).sum()
                for f in predicted_ids
            ]
            for t in true_ids
        ]
    )
    eligible = scores >= threshold
    return int(eligible[linear_sum_assignment(eligible, maximize=True)].sum())


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_matched_as_stardist_matches_them(seed: int) -> None:
    assert [counts(each) for each in match_label_maps(*draw_scene(seed))] == STARDIST[seed]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.75])
def test_matching_is_the_best_one_to_one_assignment(threshold: float) -> None:
    """Below 0.5 an object may have several partners, of which one counts."""
    for seed in range(10, 16):
        truth, prediction = draw_scene(seed, size=(60, 60), count=12)
        expected = count_true_positives(truth, prediction, threshold)
        assert match_at(truth, prediction, threshold).true_positives == expected


def test_an_object_with_two_possible_partners_is_paired_so_that_both_truths_match() -> None:
    truth = np.array([[1, 1, 1, 2, 2]])
    prediction = np.array([[3, 4, 4, 4, 4]])  # 4 overlaps both truths; 3 overlaps only 1
    assert count_true_positives(truth, prediction, 0.3) == 2
    assert counts(match_at(truth, prediction, 0.3)) == (2, 0, 0)


def test_an_iou_of_exactly_the_threshold_is_a_match() -> None:
    for shared, threshold in ((6, 0.6), (7, 0.7), (19, 0.95)):
        length = 10 if threshold < 0.9 else 20
        truth, prediction = np.ones((1, length), int), np.zeros((1, length), int)
        prediction[0, :shared] = 1
        assert match_at(truth, prediction, threshold).true_positives == 1


def test_thresholds_are_from_a_half_to_nineteen_twentieths() -> None:
    assert tuple(round(0.5 + 0.05 * step, 2) for step in range(10)) == IOU_THRESHOLDS
    assert mean_segmentation_accuracy(match_label_maps(*draw_scene(0))) == pytest.approx(
        0.22516372078341518
    )  # stardist 0.9.2


def test_images_pooled_are_stardists_data_set() -> None:
    """Its `matching_dataset` of the three at 0.5."""
    half = pool_match_counts([match_label_maps(*draw_scene(seed)) for seed in range(3)])[0]
    assert counts(half) == (35, 21, 31)
    assert half.accuracy == pytest.approx(0.40229885057471265)
    assert (half.precision, half.recall, half.f1) == pytest.approx(
        (0.625, 0.5303030303030303, 0.5737704918032787)
    )


def test_scores_of_empty_maps() -> None:
    empty, (some, _) = np.zeros((160, 200), int), draw_scene(0)
    objects = len(np.unique(some)) - 1
    nothing, missed, invented = (
        match_label_maps(*each)[0] for each in ((empty, empty), (some, empty), (empty, some))
    )
    assert (nothing.accuracy, nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1, 1)
    assert counts(missed) == (0, 0, objects)
    assert counts(invented) == (0, objects, 0)
    for each in (missed, invented):
        assert (each.accuracy, each.precision, each.recall, each.f1) == (0, 0, 0, 0)


def test_a_map_without_background_has_objects_only() -> None:
    truth = np.array([[1, 1], [2, 2]])
    assert counts(match_label_maps(truth, truth + 4)[-1]) == (2, 0, 0)


def test_ignored_pixels_shrink_objects_and_may_take_them_away() -> None:
    truth, prediction = np.array([[1, 1, 9, 9, 0]]), np.array([[5, 5, 5, 6, 0]])
    assert counts(match_at(truth, prediction, 0.95, ignore=9)) == (1, 0, 0)
