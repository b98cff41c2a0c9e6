import json
import math

import numpy as np
import pytest
from medpy.metric.binary import hd95
from sklearn.metrics import jaccard_score

from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.scores import aggregate_scores, score_image, scores_to_json
from tests.evaluate.drawn import scene

EMPTY = np.zeros((160, 200), np.uint16)


def test_label_maps_are_judged_as_objects_and_as_foreground() -> None:
    truth, found = scene(0)
    values = score_image("a", MapKind.LABELS, truth, found).values
    assert values["msa"] == pytest.approx(0.22516372078341518)  # stardist 0.9.2
    assert values["sa50"] == pytest.approx(14 / 30)
    assert values["iou"] == pytest.approx(jaccard_score((truth > 0).ravel(), (found > 0).ravel()))


def test_the_same_map_is_perfect_by_every_score() -> None:
    truth, _ = scene(1)
    for kind in MapKind:
        values = score_image("a", kind, truth, truth).values
        assert all(value == (0 if "hausdorff" in name else 1) for name, value in values.items()), values


def test_masks_are_judged_by_whatever_value_they_have() -> None:
    truth, found = scene(0)
    assert score_image("a", MapKind.BINARY, truth, found) == score_image(
        "a", MapKind.BINARY, (truth > 0) * 255, (found > 0) * 1
    )


def test_distances_are_in_the_unit_of_the_spacing() -> None:
    truth, found = (each > 0 for each in scene(0))
    values = score_image("a", MapKind.BINARY, truth * 1, found * 1, spacing=(0.5, 2.0)).values
    assert values["hausdorff_boundaries_95"] == pytest.approx(hd95(found, truth, voxelspacing=(0.5, 2.0)))


def test_of_classes_distances_are_means_over_those_above_background() -> None:
    truth = np.zeros((20, 20), int)
    truth[:10, :10], truth[10:, 10:] = 1, 2
    found = np.roll(truth, 2, axis=1)
    found[:, :2] = 0
    of_one, of_two = (
        score_image("a", MapKind.BINARY, (truth == value) * 1, (found == value) * 1).values
        for value in (1, 2)
    )
    values = score_image("a", MapKind.CLASSES, truth, found).values
    for name in ("hausdorff_regions", "hausdorff_boundaries_95"):
        assert values[name] == pytest.approx((of_one[name] + of_two[name]) / 2)


def test_ignored_pixels_count_in_no_score() -> None:
    truth, found = scene(0)
    truth[:80] = 999
    for kind in MapKind:
        spoiled = found.copy()
        spoiled[:80] = np.arange(200) % 7
        assert score_image("a", kind, truth, found, ignore=999) == score_image(
            "a", kind, truth, spoiled, ignore=999
        )


def test_where_only_one_map_is_empty_distances_are_infinite_and_left_out_of_the_mean() -> None:
    truth, found = scene(0)
    scores = [score_image("a", MapKind.LABELS, truth, found), score_image("b", MapKind.LABELS, truth, EMPTY)]
    assert math.isinf(scores[1].values["hausdorff_regions"])
    judgement = aggregate_scores(MapKind.LABELS, scores)
    assert judgement.mean["hausdorff_regions"] == scores[0].values["hausdorff_regions"]
    assert judgement.not_finite["hausdorff_regions"] == 1
    assert judgement.mean["sa50"] == scores[0].values["sa50"] / 2


def test_a_set_of_nothing_but_empty_predictions() -> None:
    judgement = aggregate_scores(MapKind.BINARY, [score_image("a", MapKind.BINARY, scene(0)[0], EMPTY)])
    assert judgement.mean["iou"] == 0
    assert judgement.mean["hausdorff_boundaries"] == math.inf


def test_pooled_counts_all_images_as_one() -> None:
    maps = [scene(seed) for seed in range(3)]
    labels = aggregate_scores(
        MapKind.LABELS, [score_image(str(i), MapKind.LABELS, *each) for i, each in enumerate(maps)]
    )
    assert labels.pooled["sa50"] == pytest.approx(0.40229885057471265)  # stardist 0.9.2's matching_dataset
    by_four = [(truth % 4, found % 4) for truth, found in maps]
    classes = aggregate_scores(
        MapKind.CLASSES, [score_image(str(i), MapKind.CLASSES, *each) for i, each in enumerate(by_four)]
    )
    flat = [np.concatenate([each.ravel() for each in column]) for column in zip(*by_four, strict=True)]
    assert classes.pooled["mean_iou"] == pytest.approx(jaccard_score(*flat, average="macro"))
    assert list(classes.class_iou.values()) == pytest.approx(list(jaccard_score(*flat, average=None)))


@pytest.mark.parametrize("kind", MapKind)
def test_json_holds_every_score_and_no_infinity(kind: MapKind) -> None:
    truth, found = (each if kind is MapKind.LABELS else (each > 0) * 1 for each in scene(0))
    judgement = aggregate_scores(
        kind, [score_image("a", kind, truth, found), score_image("b", kind, truth, EMPTY)]
    )
    content = json.loads(json.dumps(scores_to_json(judgement, "px"), allow_nan=False))
    assert [each["name"] for each in content["images"]] == ["a", "b"]
    assert content["distances_in"] == "px"
    assert content["images"][1]["hausdorff_boundaries"] is None
    assert content["not_finite"]["hausdorff_boundaries"] == 1
    assert content["mean"].keys() == judgement.mean.keys()
    if kind is MapKind.LABELS:
        assert content["images"][0]["sa"]["0.55"] == pytest.approx(13 / 31)
