"""Scores of objects in volumes: slices that are not empty, distances in millimetres as MedPy has them."""

import math

import numpy as np
import pytest
from medpy.metric.binary import assd, dc, hd, hd95
from numpy.typing import NDArray

from segserve.evaluate.hausdorff import find_boundaries
from segserve.evaluate.volume_scores import (
    average_by_label,
    average_scores,
    object_from_json,
    object_to_json,
    score_object,
)

SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7)]


def ball(centre: tuple[float, float, float], radius: float) -> NDArray[np.bool_]:
    """[16, 40, 44]."""
    z, y, x = np.ogrid[:16, :40, :44]
    inside: NDArray[np.bool_] = (2 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (
        x - centre[2]
    ) ** 2 <= radius**2
    return inside


TRUTH = ball((8, 20, 20), 10)
PREDICTION = ball((9, 22, 19), 9) | ball((3, 5, 40), 3)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_distances_are_medpys(spacing: tuple[float, float, float]) -> None:
    scores = score_object(1, TRUTH, PREDICTION, spacing)
    assert assd(PREDICTION, TRUTH, voxelspacing=spacing) < scores.hausdorff_95 < scores.hausdorff
    assert scores.hausdorff == pytest.approx(hd(PREDICTION, TRUTH, voxelspacing=spacing))
    assert scores.hausdorff_95 == pytest.approx(hd95(PREDICTION, TRUTH, voxelspacing=spacing))
    assert scores.dice == pytest.approx(dc(PREDICTION, TRUTH))


def test_the_surface_has_the_six_neighbours_of_medpy() -> None:
    solid = np.ones((3, 3, 3), np.bool_)
    surface = find_boundaries(solid)
    assert surface.sum() == 26
    assert not surface[1, 1, 1]


def test_only_slices_with_the_label_count() -> None:
    scores = score_object(1, TRUTH, PREDICTION, SPACINGS[0])
    occupied = np.flatnonzero(TRUTH.any(axis=(1, 2)))
    assert list(scores.slice_ious) == occupied.tolist()
    for index, value in scores.slice_ious.items():
        union = (TRUTH[index] | PREDICTION[index]).sum()
        assert value == pytest.approx((TRUTH[index] & PREDICTION[index]).sum() / union)
    assert scores.iou == pytest.approx(np.mean(list(scores.slice_ious.values())))
    missed = PREDICTION & (np.arange(16) < 9)[:, None, None]
    assert score_object(1, TRUTH, missed, SPACINGS[0]).slice_ious[9] == 0


def test_a_lost_object_is_counted_beside_the_mean_distance() -> None:
    found = score_object(1, TRUTH, PREDICTION, SPACINGS[0])
    lost = score_object(2, TRUTH, np.zeros_like(TRUTH), SPACINGS[0])
    assert math.isinf(lost.hausdorff)
    mean = average_scores([found, lost])
    assert (mean.objects, mean.lost, mean.hausdorff) == (2, 1, found.hausdorff)
    assert mean.iou == pytest.approx(found.iou / 2)
    assert math.isinf(average_scores([lost]).hausdorff)


def test_a_labels_mean_is_over_its_slices_in_all_volumes() -> None:
    whole = score_object(1, TRUTH, TRUTH, SPACINGS[0])
    short = TRUTH & (np.arange(16) == 8)[:, None, None]
    lost = score_object(1, short, np.zeros_like(short), SPACINGS[0])
    other = score_object(7, TRUTH, TRUTH, SPACINGS[0])
    means = average_by_label([whole, other, lost])
    slices = len(whole.slice_ious)
    assert list(means) == [1, 7]
    assert means[1].iou == pytest.approx(slices / (slices + 1))
    assert (means[7].iou, means[7].hausdorff) == (1, 0)


def test_scores_survive_json() -> None:
    for prediction in (PREDICTION, np.zeros_like(TRUTH)):
        scores = score_object(5, TRUTH, prediction, SPACINGS[1])
        assert object_from_json(object_to_json(scores)) == scores
