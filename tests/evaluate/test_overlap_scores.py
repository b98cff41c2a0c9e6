import numpy as np
import pytest
from sklearn.metrics import accuracy_score, adjusted_rand_score, f1_score, jaccard_score

from segserve.evaluate.overlap_scores import (
    ClassCounts,
    adjusted_rand_index,
    count_classes,
    count_value_pairs,
    dice,
    mean_iou,
)
from segserve.masks.geometry import iou
from tests.evaluate.drawn import scene

EMPTY, HALF = np.zeros((4, 6), bool), np.repeat([[True], [True], [False], [False]], 6, axis=1)


def classes(seed: int, shape: tuple[int, int] = (40, 50), count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, count, shape)
    return truth, np.where(rng.random(shape) < 0.6, truth, rng.integers(0, count, shape))


@pytest.mark.parametrize("seed", range(3))
def test_iou_and_dice_are_scikit_learns(seed: int) -> None:
    truth, found = (each > 0 for each in scene(seed))
    assert iou(truth, found) == pytest.approx(jaccard_score(truth.ravel(), found.ravel()))
    assert dice(truth, found) == pytest.approx(f1_score(truth.ravel(), found.ravel()))


def test_of_empty_masks() -> None:
    assert iou(EMPTY, EMPTY) == dice(EMPTY, EMPTY) == 1
    assert iou(EMPTY, HALF) == dice(EMPTY, HALF) == iou(HALF, EMPTY) == dice(HALF, EMPTY) == 0


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_scored_as_scikit_learn_scores_them(seed: int) -> None:
    truth, found = classes(seed)
    counts = count_classes(count_value_pairs(truth, found))
    flat = truth.ravel(), found.ravel()
    assert mean_iou(counts) == pytest.approx(jaccard_score(*flat, average="macro"))
    assert [each.dice for each in counts.values()] == pytest.approx(list(f1_score(*flat, average=None)))
    assert sum(each.both for each in counts.values()) == round(accuracy_score(*flat) * truth.size)


def test_ignored_pixels_count_nowhere() -> None:
    truth, found = classes(0)
    truth[:10] = 255
    kept = truth != 255
    ignoring = count_classes(count_value_pairs(truth, found, ignore=255))
    assert 255 not in ignoring
    assert mean_iou(ignoring) == pytest.approx(jaccard_score(truth[kept], found[kept], average="macro"))


def test_a_class_that_is_nowhere_does_not_count_and_one_that_is_only_found_counts_as_wrong() -> None:
    truth = np.array([[0, 0, 7, 7]])
    assert mean_iou(count_classes(count_value_pairs(truth, truth))) == 1
    assert mean_iou(count_classes(count_value_pairs(truth, np.array([[0, 0, 7, 3]])))) == pytest.approx(
        (1 + 0.5 + 0) / 3
    )


def test_where_everything_is_ignored_nothing_is_wrong() -> None:
    table = count_value_pairs(np.full((3, 3), 255), np.ones((3, 3), int), ignore=255)
    assert count_classes(table) == {}
    assert mean_iou({}) == adjusted_rand_index(table) == 1


def test_counts_of_images_add_up_to_those_of_all_as_one() -> None:
    parts = [classes(seed) for seed in range(2)]
    whole = count_classes(count_value_pairs(*(np.concatenate(maps) for maps in zip(*parts, strict=True))))
    first, second = (count_classes(count_value_pairs(*maps)) for maps in parts)
    assert whole == {value: first[value] + second[value] for value in first}
    assert ClassCounts().iou == ClassCounts().dice == 1


@pytest.mark.parametrize("seed", range(3))
def test_adjusted_rand_is_scikit_learns(seed: int) -> None:
    for truth, found in (scene(seed), classes(seed), scene(seed)[::-1]):
        expected = adjusted_rand_score(truth.ravel(), found.ravel())
        assert adjusted_rand_index(count_value_pairs(truth, found)) == pytest.approx(expected, abs=1e-12)


def test_adjusted_rand_of_one_part_or_of_the_same_parts_by_other_names() -> None:
    truth, _ = scene(0)
    assert adjusted_rand_index(count_value_pairs(truth, truth.astype(np.int64) * 1000)) == 1
    assert adjusted_rand_index(count_value_pairs(np.zeros_like(truth), np.zeros_like(truth))) == 1
    assert adjusted_rand_index(count_value_pairs(truth, np.zeros_like(truth))) == 0


@pytest.mark.parametrize("largest", [300, 70_000, 1 << 40])
def test_values_may_be_large_and_sparse(largest: int) -> None:
    truth, found = (each.astype(np.int64) * (largest // 100) for each in scene(1))
    plain, large = count_value_pairs(*scene(1)), count_value_pairs(truth, found)
    assert large.truth_ids.tolist() == (plain.truth_ids * (largest // 100)).tolist()
    assert large.counts.tolist() == plain.counts.tolist()


def test_many_values_in_both_maps() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 6000, (2, 150, 150))
    table = count_value_pairs(truth, found)
    assert table.counts.sum() == truth.size
    assert adjusted_rand_index(table) == pytest.approx(
        adjusted_rand_score(truth.ravel(), found.ravel()), abs=1e-12
    )
