import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from segserve.evaluate.object_matching import (
    THRESHOLDS,
    MatchCounts,
    find_overlaps,
    match_at_thresholds,
    match_objects,
    mean_segmentation_accuracy,
    pool_match_counts,
)
from segserve.evaluate.overlap_scores import count_value_pairs
from tests.evaluate.drawn import Labels, scene

# What stardist 0.9.2's `matching` counts in scene(0), scene(1) and scene(2): TP, FP, FN at each threshold.
STARDIST = (
    [(14, 7, 9), (13, 8, 10), (9, 12, 14), (7, 14, 16), (7, 14, 16), (6, 15, 17), (6, 15, 17), (6, 15, 17),
     (5, 16, 18), (5, 16, 18)],
    [(9, 9, 13), (8, 10, 14), (6, 12, 16), (5, 13, 17), (5, 13, 17), (4, 14, 18), (1, 17, 21), (1, 17, 21),
     (1, 17, 21), (1, 17, 21)],
    [(12, 5, 9), (12, 5, 9), (11, 6, 10), (10, 7, 11), (8, 9, 13), (7, 10, 14), (4, 13, 17), (4, 13, 17),
     (4, 13, 17), (4, 13, 17)],
)  # fmt: skip


def matched(truth: Labels, found: Labels) -> tuple[MatchCounts, ...]:
    return match_at_thresholds(find_overlaps(count_value_pairs(truth, found)))


def counts(each: MatchCounts) -> tuple[int, int, int]:
    return each.true_positives, each.false_positives, each.false_negatives


def by_definition(truth: Labels, found: Labels, threshold: float) -> int:
    """True positives: the most pairs of an IoU of at least `threshold` that one-to-one matching can have."""
    there, seen = (np.unique(each[each > 0]) for each in (truth, found))
    scores = np.array(
        [
            [((truth == t) & (found == f)).sum() / ((truth == t) | (found == f)).sum() for f in seen]
            for t in there
        ]
    )
    good = scores >= threshold
    return int(good[linear_sum_assignment(good, maximize=True)].sum())


@pytest.mark.parametrize("seed", range(3))
def test_objects_are_matched_as_stardist_matches_them(seed: int) -> None:
    assert [counts(each) for each in matched(*scene(seed))] == STARDIST[seed]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.75])
def test_matching_is_the_best_one_to_one_assignment(threshold: float) -> None:
    """Below 0.5 an object may have several partners, of which one counts."""
    for seed in range(10, 16):
        truth, found = scene(seed, size=(60, 60), count=12)
        table = count_value_pairs(truth, found)
        assert match_objects(find_overlaps(table), threshold).true_positives == by_definition(
            truth, found, threshold
        )


def test_a_partner_that_two_could_have_goes_where_both_are_matched() -> None:
    truth = np.array([[1, 1, 1, 2, 2]])
    found = np.array([[3, 4, 4, 4, 4]])  # 4 could be either's; only 1 overlaps 3
    assert by_definition(truth, found, 0.3) == 2
    assert counts(match_objects(find_overlaps(count_value_pairs(truth, found)), 0.3)) == (2, 0, 0)


def test_an_iou_of_exactly_the_threshold_is_a_match() -> None:
    for shared, threshold in ((6, 0.6), (7, 0.7), (19, 0.95)):
        length = 10 if threshold < 0.9 else 20
        truth, found = np.ones((1, length), int), np.zeros((1, length), int)
        found[0, :shared] = 1
        assert match_objects(find_overlaps(count_value_pairs(truth, found)), threshold).true_positives == 1


def test_thresholds_are_from_a_half_to_nineteen_twentieths() -> None:
    assert tuple(round(0.5 + 0.05 * step, 2) for step in range(10)) == THRESHOLDS
    assert mean_segmentation_accuracy(matched(*scene(0))) == pytest.approx(
        0.22516372078341518
    )  # stardist 0.9.2


def test_images_pooled_are_stardists_data_set() -> None:
    """Its `matching_dataset` of the three at 0.5."""
    half = pool_match_counts([matched(*scene(seed)) for seed in range(3)])[0]
    assert counts(half) == (35, 21, 31)
    assert half.accuracy == pytest.approx(0.40229885057471265)
    assert (half.precision, half.recall, half.f1) == pytest.approx(
        (0.625, 0.5303030303030303, 0.5737704918032787)
    )


def test_of_empty_maps() -> None:
    empty, (some, _) = np.zeros((160, 200), int), scene(0)
    objects = len(np.unique(some)) - 1
    nothing, missed, invented = (matched(*each)[0] for each in ((empty, empty), (some, empty), (empty, some)))
    assert (nothing.accuracy, nothing.precision, nothing.recall, nothing.f1) == (1, 1, 1, 1)
    assert counts(missed) == (0, 0, objects)
    assert counts(invented) == (0, objects, 0)
    for each in (missed, invented):
        assert (each.accuracy, each.precision, each.recall, each.f1) == (0, 0, 0, 0)


def test_a_map_without_background() -> None:
    truth = np.array([[1, 1], [2, 2]])
    assert counts(matched(truth, truth + 4)[-1]) == (2, 0, 0)


def test_ignored_pixels_shrink_objects_and_may_take_them_away() -> None:
    truth, found = np.array([[1, 1, 9, 9, 0]]), np.array([[5, 5, 5, 6, 0]])
    assert counts(match_objects(find_overlaps(count_value_pairs(truth, found, ignore=9)), 0.95)) == (1, 0, 0)
