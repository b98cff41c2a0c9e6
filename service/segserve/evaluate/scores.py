"""The scores of one image, and of a data set.

    labels    objects: matched one to one, and the foreground as one region
    classes   a class for every pixel
    binary    one region

Distances are in pixels, or in the unit of the spacing. A data set's score is the mean over its images, as micro-sam
reports it. `pooled` scores count all images as if they were one, as stardist's `matching_dataset` and the usual mean
IoU of segmentation benchmarks do.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segserve.evaluate import hausdorff, object_matching, overlap_scores
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.hausdorff import PIXEL_SPACING, Spacing
from segserve.evaluate.object_matching import MatchCounts
from segserve.evaluate.overlap_scores import ClassCounts
from segserve.masks import geometry
from segserve.masks.label_map import Labels
from segserve.types import Bool

DISTANCE_SCORES = (
    "hausdorff_regions",
    "hausdorff_regions_95",
    "hausdorff_boundaries",
    "hausdorff_boundaries_95",
)

# The score that ranks images from worst to best.
MAIN_SCORE = {
    MapKind.LABELS: "msa",
    MapKind.CLASSES: "mean_iou",
    MapKind.BINARY: "iou",
}


@dataclass(frozen=True)
class ImageScores:
    """All scores of one image.

    values: the scores by name. A distance may be infinite.
    matches: of label maps, the counts at each IoU threshold.
    classes: of class maps, the pixel counts by class.
    """

    name: str
    values: dict[str, float]
    matches: tuple[MatchCounts, ...] = ()
    classes: dict[int, ClassCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetScores:
    """All scores of a data set.

    images: the scores of each image, in the order of scoring.
    mean: the mean of each score over the images where it is finite.
    not_finite: the number of images where a score is not finite, for the scores that have such images.
    pooled: scores over all images as if they were one.
    class_iou: the pooled IoU of each class.
    """

    kind: MapKind
    images: list[ImageScores]
    mean: dict[str, float]
    not_finite: dict[str, int]
    pooled: dict[str, float]
    class_iou: dict[int, float]


def score_image(
    name: str,
    kind: MapKind,
    truth: Labels,
    prediction: Labels,
    *,
    ignore: int | None = None,
    spacing: Spacing = PIXEL_SPACING,
) -> ImageScores:
    """Score a prediction [H, W] against the truth [H, W], both of values from 0.

    Pixels where the truth is `ignore` are left out of every score.
    """
    score_map = {
        MapKind.LABELS: score_label_map,
        MapKind.CLASSES: score_class_map,
        MapKind.BINARY: score_mask,
    }[kind]
    return score_map(name, truth, prediction, ignore, spacing)


def score_label_map(
    name: str, truth: Labels, prediction: Labels, ignore: int | None, spacing: Spacing
) -> ImageScores:
    """Score objects. Boundaries are those of objects, so two that touch have a boundary between them."""
    table = overlap_scores.build_contingency_table(truth, prediction, ignore)
    matches = object_matching.match_at_thresholds(object_matching.find_overlaps(table))
    at_50, at_75 = matches[object_matching.AT_50], matches[object_matching.AT_75]
    truth, prediction = erase_ignored(truth, prediction, ignore)
    boundaries = hausdorff.find_boundaries(truth), hausdorff.find_boundaries(prediction)
    values = {
        "msa": object_matching.mean_segmentation_accuracy(matches),
        "sa50": at_50.accuracy,
        "sa75": at_75.accuracy,
        "precision50": at_50.precision,
        "recall50": at_50.recall,
        "f1_50": at_50.f1,
        "adjusted_rand": overlap_scores.adjusted_rand_index(table),
        **score_regions(truth > 0, prediction > 0),
        **measure_distances(truth > 0, prediction > 0, *boundaries, spacing),
    }
    return ImageScores(name, values, matches=matches)


def score_class_map(
    name: str, truth: Labels, prediction: Labels, ignore: int | None, spacing: Spacing
) -> ImageScores:
    """Score classes. Distances are means over the classes above 0 that occur in either map."""
    table = overlap_scores.build_contingency_table(truth, prediction, ignore)
    classes = overlap_scores.count_classes(table)
    truth, prediction = erase_ignored(truth, prediction, ignore)
    class_distances = [
        measure_mask_distances(truth == value, prediction == value, spacing) for value in classes if value > 0
    ]
    values = {
        "mean_iou": overlap_scores.mean_iou(classes),
        "mean_dice": float(np.mean([each.dice for each in classes.values()])) if classes else 1.0,
        "accuracy": overlap_scores.ratio(
            sum(each.intersection for each in classes.values()), sum(each.truth for each in classes.values())
        ),
        **{
            key: float(np.mean([each[key] for each in class_distances])) if class_distances else 0.0
            for key in DISTANCE_SCORES
        },
    }
    return ImageScores(name, values, classes=classes)


def score_mask(
    name: str, truth: Labels, prediction: Labels, ignore: int | None, spacing: Spacing
) -> ImageScores:
    """Score one region: every value above 0 is foreground."""
    truth, prediction = erase_ignored(truth, prediction, ignore)
    masks = truth > 0, prediction > 0
    return ImageScores(name, {**score_regions(*masks), **measure_mask_distances(*masks, spacing)})


def erase_ignored(truth: Labels, prediction: Labels, ignore: int | None) -> tuple[Labels, Labels]:
    """Return both maps with background where the truth is `ignore`."""
    if ignore is None:
        return truth, prediction
    ignored = truth == ignore
    return np.where(ignored, 0, truth), np.where(ignored, 0, prediction)


def score_regions(truth: Bool, prediction: Bool) -> dict[str, float]:
    """Return IoU and Dice of two masks [H, W]."""
    return {"iou": geometry.iou(truth, prediction), "dice": overlap_scores.dice(truth, prediction)}


def measure_mask_distances(truth: Bool, prediction: Bool, spacing: Spacing) -> dict[str, float]:
    """Return the distance scores of two masks [H, W]."""
    boundaries = hausdorff.find_boundaries(truth), hausdorff.find_boundaries(prediction)
    return measure_distances(truth, prediction, *boundaries, spacing)


def measure_distances(
    truth: Bool, prediction: Bool, truth_boundary: Bool, predicted_boundary: Bool, spacing: Spacing
) -> dict[str, float]:
    """Return the distance scores of two masks [H, W] and their boundaries [H, W], by the names in DISTANCE_SCORES."""
    scale = np.array(spacing)
    regions = hausdorff.region_hausdorff(truth, prediction, spacing)
    boundaries = hausdorff.point_hausdorff(
        np.argwhere(truth_boundary) * scale, np.argwhere(predicted_boundary) * scale
    )
    values = (regions.hausdorff, regions.hausdorff_95, boundaries.hausdorff, boundaries.hausdorff_95)
    return dict(zip(DISTANCE_SCORES, values, strict=True))


def aggregate_scores(kind: MapKind, images: Sequence[ImageScores]) -> DatasetScores:
    """Average and pool the scores of at least one image."""
    names = images[0].values
    finite = {n: [s.values[n] for s in images if math.isfinite(s.values[n])] for n in names}
    classes = sum_class_counts(each.classes for each in images)
    return DatasetScores(
        kind,
        list(images),
        mean={n: float(np.mean(values)) if values else math.inf for n, values in finite.items()},
        not_finite={
            n: len(images) - len(values) for n, values in finite.items() if len(values) < len(images)
        },
        pooled=pool_scores(kind, images, classes),
        class_iou={value: counts.iou for value, counts in classes.items()},
    )


def pool_scores(
    kind: MapKind, images: Sequence[ImageScores], classes: dict[int, ClassCounts]
) -> dict[str, float]:
    """Return the scores over all images as if they were one. classes: the counts of all images, added up."""
    if kind is MapKind.LABELS:
        matches = object_matching.pool_match_counts([each.matches for each in images])
        at_50 = matches[object_matching.AT_50]
        msa = object_matching.mean_segmentation_accuracy(matches)
        return {"msa": msa, "sa50": at_50.accuracy, "f1_50": at_50.f1}
    if kind is MapKind.CLASSES:
        return {"mean_iou": overlap_scores.mean_iou(classes)}
    return {}


def sum_class_counts(images: Iterable[dict[int, ClassCounts]]) -> dict[int, ClassCounts]:
    """Add up the pixel counts of several images, by class, ascending."""
    total: dict[int, ClassCounts] = {}
    for image in images:
        for value, counts in image.items():
            total[value] = total.get(value, ClassCounts()) + counts
    return dict(sorted(total.items()))


def finite_or_none(value: Any) -> Any:
    """Return None for an infinite number, since JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scores_to_json(scores: DatasetScores, unit: str) -> dict[str, Any]:
    """Return the scores as JSON values. unit: of distances."""

    def to_json(values: dict[Any, Any]) -> dict[str, Any]:
        return {str(key): finite_or_none(value) for key, value in values.items()}

    return {
        "kind": str(scores.kind),
        "distances_in": unit,
        "images": [
            {
                "name": each.name,
                **to_json(each.values),
                **({"sa": {f"{m.threshold:g}": m.accuracy for m in each.matches}} if each.matches else {}),
                **(
                    {"class_iou": to_json({k: c.iou for k, c in each.classes.items()})}
                    if each.classes
                    else {}
                ),
            }
            for each in scores.images
        ],
        "mean": to_json(scores.mean),
        "not_finite": scores.not_finite,
        "pooled": to_json(scores.pooled),
        "class_iou": to_json(scores.class_iou),
    }
