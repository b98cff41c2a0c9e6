"""All scores of an image, and their means and pooled values over a data set."""

import json
import math

import numpy as np
import pytest
from medpy.metric.binary import hd95
from sklearn.metrics import jaccard_score

from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.scores import aggregate_scores, score_image, scores_to_json
from tests.evaluate.drawn_labels import draw_scene

EMPTY = np.zeros((160, 200), np.uint16)


def test_label_maps_are_scored_as_objects_and_as_foreground() -> None:
    truth, prediction = draw_scene(0)
    values = score_image("a", MapKind.LABELS, truth, prediction).values
    assert values["msa"] == pytest.approx(0.22516372078341518)  # stardist 0.9.2
    assert values["sa50"] == pytest.approx(14 / 30)
    assert values["iou"] == pytest.approx(jaccard_score((truth > 0).ravel(), (prediction > 0).ravel()))


def test_the_same_map_is_perfect_by_every_score() -> None:
    truth, _ = draw_scene(1)
    for kind in MapKind:
        values = score_image("a", kind, truth, truth).values
        assert all(value == (0 if "hausdorff" in name else 1) for name, value in values.items()), values


def test_every_value_above_0_of_a_mask_is_foreground() -> None:
    truth, prediction = draw_scene(0)
    assert score_image("a", MapKind.BINARY, truth, prediction) == score_image(
        "a", MapKind.BINARY, (truth > 0) * 255, (prediction > 0) * 1
    )


def test_distances_are_in_the_unit_of_the_spacing() -> None:
    truth, prediction = (each > 0 for each in draw_scene(0))
    values = score_image("a", MapKind.BINARY, truth * 1, prediction * 1, spacing=(0.5, 2.0)).values
    assert values["hausdorff_boundaries_95"] == pytest.approx(
        hd95(prediction, truth, voxelspacing=(0.5, 2.0))
    )


def test_distances_of_class_maps_are_means_over_the_classes_above_background() -> None:
    truth = np.zeros((20, 20), int)
    truth[:10, :10], truth[10:, 10:] = 1, 2
    prediction = np.roll(truth, 2, axis=1)
    prediction[:, :2] = 0
    class_1, class_2 = (
        score_image("a", MapKind.BINARY, (truth == value) * 1, (prediction == value) * 1).values
        for value in (1, 2)
    )
    values = score_image("a", MapKind.CLASSES, truth, prediction).values
    for name in ("hausdorff_regions", "hausdorff_boundaries_95"):
        assert values[name] == pytest.approx((class_1[name] + class_2[name]) / 2)


def test_ignored_pixels_change_no_score() -> None:
    truth, prediction = draw_scene(0)
    truth[:80] = 999
    for kind in MapKind:
        spoiled = prediction.copy()
        spoiled[:80] = np.arange(200) % 7
        assert score_image("a", kind, truth, prediction, ignore=999) == score_image(
            "a", kind, truth, spoiled, ignore=999
        )


def test_where_only_one_map_is_empty_distances_are_infinite_and_left_out_of_the_mean() -> None:
    truth, prediction = draw_scene(0)
    scores = [
        score_image("a", MapKind.LABELS, truth, prediction),
        score_image("b", MapKind.LABELS, truth, EMPTY),
    ]
    assert math.isinf(scores[1].values["hausdorff_regions"])
    dataset = aggregate_scores(MapKind.LABELS, scores)
    assert dataset.mean["hausdorff_regions"] == scores[0].values["hausdorff_regions"]
    assert dataset.not_finite["hausdorff_regions"] == 1
    assert dataset.mean["sa50"] == scores[0].values["sa50"] / 2


def test_a_data_set_of_empty_predictions_only() -> None:
    dataset = aggregate_scores(MapKind.BINARY, [score_image("a", MapKind.BINARY, draw_scene(0)[0], EMPTY)])
    assert dataset.mean["iou"] == 0
    assert dataset.mean["hausdorff_boundaries"] == math.inf


def test_pooled_scores_count_all_images_as_one() -> None:
    maps = [draw_scene(seed) for seed in range(3)]
    labels = aggregate_scores(
        MapKind.LABELS, [score_image(str(i), MapKind.LABELS, *each) for i, each in enumerate(maps)]
    )
    assert labels.pooled["sa50"] == pytest.approx(0.40229885057471265)  # stardist 0.9.2's matching_dataset
    by_four = [(truth % 4, prediction % 4) for truth, prediction in maps]
    classes = aggregate_scores(
        MapKind.CLASSES, [score_image(str(i), MapKind.CLASSES, *each) for i, each in enumerate(by_four)]
    )
    flat = [np.concatenate([each.ravel() for each in column]) for column in zip(*by_four, strict=True)]
    assert classes.pooled["mean_iou"] == pytest.approx(jaccard_score(*flat, average="macro"))
    assert list(classes.class_iou.values()) == pytest.approx(list(jaccard_score(*flat, average=None)))


@pytest.mark.parametrize("kind", MapKind)
def test_json_holds_every_score_and_no_infinity(kind: MapKind) -> None:
    truth, prediction = (each if kind is MapKind.LABELS else (each > 0) * 1 for each in draw_scene(0))
    dataset = aggregate_scores(
        kind, [score_image("a", kind, truth, prediction), score_image("b", kind, truth, EMPTY)]
    )
    content = json.loads(json.dumps(scores_to_json(dataset, "px"), allow_nan=False))
    assert [each["name"] for each in content["images"]] == ["a", "b"]
    assert content["distances_in"] == "px"
    assert content["images"][1]["hausdorff_boundaries"] is None
    assert content["not_finite"]["hausdorff_boundaries"] == 1
    assert content["mean"].keys() == dataset.mean.keys()
    if kind is MapKind.LABELS:
        assert content["images"][0]["sa"]["0.55"] == pytest.approx(13 / 31)
