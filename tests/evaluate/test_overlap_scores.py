"""Dice, IoU of classes and the adjusted Rand index are those of scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, adjusted_rand_score, f1_score, jaccard_score

from segserve.evaluate.overlap_scores import (
    ClassCounts,
    adjusted_rand_index,
    build_contingency_table,
    count_classes,
    dice,
    mean_iou,
)
from segserve.masks.geometry import iou
from tests.evaluate.drawn_labels import draw_scene

EMPTY, HALF = np.zeros((4, 6), bool), np.repeat([[True], [True], [False], [False]], 6, axis=1)


def draw_classes(
    seed: int, shape: tuple[int, int] = (40, 50), count: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, count, shape)
    return truth, np.where(rng.random(shape) < 0.6, truth, rng.integers(0, count, shape))


@pytest.mark.parametrize("seed", range(3))
def test_iou_and_dice_are_scikit_learns(seed: int) -> None:
    truth, prediction = (each > 0 for each in draw_scene(seed))
    assert iou(truth, prediction) == pytest.approx(jaccard_score(truth.ravel(), prediction.ravel()))
    assert dice(truth, prediction) == pytest.approx(f1_score(truth.ravel(), prediction.ravel()))


def test_empty_masks_agree_with_each_other_only() -> None:
    assert iou(EMPTY, EMPTY) == dice(EMPTY, EMPTY) == 1
    assert iou(EMPTY, HALF) == dice(EMPTY, HALF) == iou(HALF, EMPTY) == dice(HALF, EMPTY) == 0


@pytest.mark.parametrize("seed", range(3))
def test_classes_are_scored_as_scikit_learn_scores_them(seed: int) -> None:
    truth, prediction = draw_classes(seed)
    counts = count_classes(build_contingency_table(truth, prediction))
    flat = truth.ravel(), prediction.ravel()
    assert mean_iou(counts) == pytest.approx(jaccard_score(*flat, average="macro"))
    assert [each.dice for each in counts.values()] == pytest.approx(list(f1_score(*flat, average=None)))
    assert sum(each.intersection for each in counts.values()) == round(accuracy_score(*flat) * truth.size)


def test_ignored_pixels_are_left_out() -> None:
    truth, prediction = draw_classes(0)
    truth[:10] = 255
    kept = truth != 255
    ignoring = count_classes(build_contingency_table(truth, prediction, ignore=255))
    assert 255 not in ignoring
    assert mean_iou(ignoring) == pytest.approx(jaccard_score(truth[kept], prediction[kept], average="macro"))


def test_a_class_in_neither_map_does_not_count_and_one_that_is_only_predicted_scores_0() -> None:
    truth = np.array([[0, 0, 7, 7]])
    assert mean_iou(count_classes(build_contingency_table(truth, truth))) == 1
    assert mean_iou(count_classes(build_contingency_table(truth, np.array([[0, 0, 7, 3]])))) == pytest.approx(
        (1 + 0.5 + 0) / 3
    )


def test_where_everything_is_ignored_scores_are_1() -> None:
    table = build_contingency_table(np.full((3, 3), 255), np.ones((3, 3), int), ignore=255)
    assert count_classes(table) == {}
    assert mean_iou({}) == adjusted_rand_index(table) == 1


def test_counts_of_images_add_up_to_those_of_the_joined_image() -> None:
    parts = [draw_classes(seed) for seed in range(2)]
    whole = count_classes(
        build_contingency_table(*(np.concatenate(maps) for maps in zip(*parts, strict=True)))
    )
    first, second = (count_classes(build_contingency_table(*maps)) for maps in parts)
    assert whole == {value: first[value] + second[value] for value in first}
    assert ClassCounts().iou == ClassCounts().dice == 1


@pytest.mark.parametrize("seed", range(3))
def test_adjusted_rand_is_scikit_learns(seed: int) -> None:
    for truth, prediction in (draw_scene(seed), draw_classes(seed), draw_scene(seed)[::-1]):
        expected = adjusted_rand_score(truth.ravel(), prediction.ravel())
        assert adjusted_rand_index(build_contingency_table(truth, prediction)) == pytest.approx(
            expected, abs=1e-12
        )


def test_adjusted_rand_ignores_the_ids_and_handles_maps_of_one_part() -> None:
    truth, _ = draw_scene(0)
    assert adjusted_rand_index(build_contingency_table(truth, truth.astype(np.int64) * 1000)) == 1
    assert adjusted_rand_index(build_contingency_table(np.zeros_like(truth), np.zeros_like(truth))) == 1
    assert adjusted_rand_index(build_contingency_table(truth, np.zeros_like(truth))) == 0


@pytest.mark.parametrize("largest", [300, 70_000, 1 << 40])
def test_values_may_be_large_and_sparse(largest: int) -> None:
    truth, prediction = (each.astype(np.int64) * (largest // 100) for each in draw_scene(1))
    plain, large = build_contingency_table(*draw_scene(1)), build_contingency_table(truth, prediction)
    assert large.truth_ids.tolist() == (plain.truth_ids * (largest // 100)).tolist()
    assert large.counts.tolist() == plain.counts.tolist()


def test_many_values_in_both_maps() -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 6000, (2, 150, 150))
    table = build_contingency_table(truth, prediction)
    assert table.counts.sum() == truth.size
    assert adjusted_rand_index(table) == pytest.approx(
        adjusted_rand_score(truth.ravel(), prediction.ravel()), abs=1e-12
    )
