"""One image's scores, and a set's.

    labels    objects: matched one to one, and the foreground as a region
    classes   a class for every pixel
    binary    one region

Distances are in pixels, or in the unit of the spacing. A set's score is the mean of its images' (as μSAM reports
it); `pooled` counts all images as if they were one (as stardist's `matching_dataset` and the usual mean IoU of
segmentation benchmarks do).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segserve.evaluate import hausdorff, object_matching, overlap_scores
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.hausdorff import PIXELS, Spacing
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


MAIN_SCORE = {
    MapKind.LABELS: "msa",
    MapKind.CLASSES: "mean_iou",
    MapKind.BINARY: "iou",
}  # what the worst cases are worst by


@dataclass(frozen=True)
class ImageScores:
    """Of one image. values: by name, infinite where a distance is. matched: of label maps, by threshold.
    classes: of class maps, by value."""

    name: str
    values: dict[str, float]
    matched: tuple[MatchCounts, ...] = ()
    classes: dict[int, ClassCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetScores:
    """Of a set. images: in the order they were judged. mean: of each value over the images where it is finite;
    not_finite: over how many it is not, where there are such. pooled: see above."""

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
    found: Labels,
    *,
    ignore: int | None = None,
    spacing: Spacing = PIXELS,
) -> ImageScores:
    """Maps [H, W] of values from 0. Pixels where the truth is `ignore` count nowhere."""
    return {MapKind.LABELS: score_label_map, MapKind.CLASSES: score_class_map, MapKind.BINARY: score_mask}[
        kind
    ](name, truth, found, ignore, spacing)


def score_label_map(
    name: str, truth: Labels, found: Labels, ignore: int | None, spacing: Spacing
) -> ImageScores:
    """Boundaries are those of the objects, so that two that touch have one between them."""
    table = overlap_scores.count_value_pairs(truth, found, ignore)
    matched = object_matching.match_at_thresholds(object_matching.find_overlaps(table))
    at_half, at_three_quarters = matched[object_matching.AT_50], matched[object_matching.AT_75]
    there, seen = erase_ignored(truth, truth, ignore), erase_ignored(found, truth, ignore)
    values = {
        "msa": object_matching.mean_segmentation_accuracy(matched),
        "sa50": at_half.accuracy,
        "sa75": at_three_quarters.accuracy,
        "precision50": at_half.precision,
        "recall50": at_half.recall,
        "f1_50": at_half.f1,
        "adjusted_rand": overlap_scores.adjusted_rand_index(table),
        **region_scores(there > 0, seen > 0),
        **distance_scores(
            there > 0, seen > 0, hausdorff.find_boundaries(there), hausdorff.find_boundaries(seen), spacing
        ),
    }
    return ImageScores(name, values, matched=matched)


def score_class_map(
    name: str, truth: Labels, found: Labels, ignore: int | None, spacing: Spacing
) -> ImageScores:
    """Distances are the means over the classes above 0 that occur in either map."""
    table = overlap_scores.count_value_pairs(truth, found, ignore)
    classes = overlap_scores.count_classes(table)
    there, seen = erase_ignored(truth, truth, ignore), erase_ignored(found, truth, ignore)
    of_classes = [mask_distances(there == value, seen == value, spacing) for value in classes if value > 0]
    values = {
        "mean_iou": overlap_scores.mean_iou(classes),
        "mean_dice": float(np.mean([each.dice for each in classes.values()])) if classes else 1.0,
        "accuracy": overlap_scores.ratio(
            sum(each.both for each in classes.values()), sum(each.truth for each in classes.values())
        ),
        **{
            key: float(np.mean([each[key] for each in of_classes])) if of_classes else 0.0
            for key in DISTANCE_SCORES
        },
    }
    return ImageScores(name, values, classes=classes)


def score_mask(name: str, truth: Labels, found: Labels, ignore: int | None, spacing: Spacing) -> ImageScores:
    there, seen = erase_ignored(truth, truth, ignore) > 0, erase_ignored(found, truth, ignore) > 0
    return ImageScores(name, {**region_scores(there, seen), **mask_distances(there, seen, spacing)})


def erase_ignored(values: Labels, truth: Labels, ignore: int | None) -> Labels:
    """Background where the truth is `ignore`."""
    return values if ignore is None else np.where(truth == ignore, 0, values)


def region_scores(truth: Bool, found: Bool) -> dict[str, float]:
    return {"iou": geometry.iou(truth, found), "dice": overlap_scores.dice(truth, found)}


def mask_distances(truth: Bool, found: Bool, spacing: Spacing) -> dict[str, float]:
    return distance_scores(
        truth, found, hausdorff.find_boundaries(truth), hausdorff.find_boundaries(found), spacing
    )


def distance_scores(
    truth: Bool, found: Bool, truth_edge: Bool, found_edge: Bool, spacing: Spacing
) -> dict[str, float]:
    scale = np.array(spacing)
    inside = hausdorff.region_hausdorff(truth, found, spacing)
    edges = hausdorff.point_hausdorff(np.argwhere(truth_edge) * scale, np.argwhere(found_edge) * scale)
    four = (inside.hausdorff, inside.hausdorff_95, edges.hausdorff, edges.hausdorff_95)
    return dict(zip(DISTANCE_SCORES, four, strict=True))


def aggregate_scores(kind: MapKind, images: Sequence[ImageScores]) -> DatasetScores:
    """At least one image."""
    names = images[0].values
    finite = {n: [s.values[n] for s in images if math.isfinite(s.values[n])] for n in names}
    classes = sum_class_counts(each.classes for each in images)
    pooled: dict[str, float] = {}
    if kind is MapKind.LABELS:
        matched = object_matching.pool_match_counts([each.matched for each in images])
        half = matched[object_matching.AT_50]
        pooled = {
            "msa": object_matching.mean_segmentation_accuracy(matched),
            "sa50": half.accuracy,
            "f1_50": half.f1,
        }
    if kind is MapKind.CLASSES:
        pooled = {"mean_iou": overlap_scores.mean_iou(classes)}
    return DatasetScores(
        kind,
        list(images),
        mean={n: float(np.mean(values)) if values else math.inf for n, values in finite.items()},
        not_finite={
            n: len(images) - len(values) for n, values in finite.items() if len(values) < len(images)
        },
        pooled=pooled,
        class_iou={value: counts.iou for value, counts in classes.items()},
    )


def sum_class_counts(images: Iterable[dict[int, ClassCounts]]) -> dict[int, ClassCounts]:
    total: dict[int, ClassCounts] = {}
    for image in images:
        for value, counts in image.items():
            total[value] = total.get(value, ClassCounts()) + counts
    return dict(sorted(total.items()))


def finite_or_none(value: Any) -> Any:
    """For JSON, which knows no infinity: null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scores_to_json(judgement: DatasetScores, unit: str) -> dict[str, Any]:
    """unit: of distances."""

    def tidy(values: dict[Any, Any]) -> dict[str, Any]:
        return {str(key): finite_or_none(value) for key, value in values.items()}

    return {
        "kind": str(judgement.kind),
        "distances_in": unit,
        "images": [
            {
                "name": each.name,
                **tidy(each.values),
                **({"sa": {f"{m.threshold:g}": m.accuracy for m in each.matched}} if each.matched else {}),
                **({"class_iou": tidy({k: c.iou for k, c in each.classes.items()})} if each.classes else {}),
            }
            for each in judgement.images
        ],
        "mean": tidy(judgement.mean),
        "not_finite": judgement.not_finite,
        "pooled": tidy(judgement.pooled),
        "class_iou": tidy(judgement.class_iou),
    }
