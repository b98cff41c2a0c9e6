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
from segserve.evaluate.cli_choices import Kind
from segserve.evaluate.hausdorff import PIXELS, Spacing
from segserve.evaluate.object_matching import Matched
from segserve.evaluate.overlap_scores import ClassCounts
from segserve.masks import geometry
from segserve.masks.label_map import Labels
from segserve.types import Bool

DISTANCES = ("hausdorff_regions", "hausdorff_regions_95", "hausdorff_boundaries", "hausdorff_boundaries_95")


FIRST = {
    Kind.LABELS: "msa",
    Kind.CLASSES: "mean_iou",
    Kind.BINARY: "iou",
}  # what the worst cases are worst by


@dataclass(frozen=True)
class Scores:
    """Of one image. values: by name, infinite where a distance is. matched: of label maps, by threshold.
    classes: of class maps, by value."""

    name: str
    values: dict[str, float]
    matched: tuple[Matched, ...] = ()
    classes: dict[int, ClassCounts] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """Of a set. images: in the order they were judged. mean: of each value over the images where it is finite;
    not_finite: over how many it is not, where there are such. pooled: see above."""

    kind: Kind
    images: list[Scores]
    mean: dict[str, float]
    not_finite: dict[str, int]
    pooled: dict[str, float]
    class_iou: dict[int, float]


def judge(
    name: str,
    kind: Kind,
    truth: Labels,
    found: Labels,
    *,
    ignore: int | None = None,
    spacing: Spacing = PIXELS,
) -> Scores:
    """Maps [H, W] of values from 0. Pixels where the truth is `ignore` count nowhere."""
    return {Kind.LABELS: judge_labels, Kind.CLASSES: judge_classes, Kind.BINARY: judge_binary}[kind](
        name, truth, found, ignore, spacing
    )


def judge_labels(name: str, truth: Labels, found: Labels, ignore: int | None, spacing: Spacing) -> Scores:
    """Boundaries are those of the objects, so that two that touch have one between them."""
    table = overlap_scores.tabulate(truth, found, ignore)
    matched = object_matching.match_all(object_matching.overlaps(table))
    at_half, at_three_quarters = matched[object_matching.AT_50], matched[object_matching.AT_75]
    there, seen = drop(truth, truth, ignore), drop(found, truth, ignore)
    values = {
        "msa": object_matching.mean_accuracy(matched),
        "sa50": at_half.accuracy,
        "sa75": at_three_quarters.accuracy,
        "precision50": at_half.precision,
        "recall50": at_half.recall,
        "f1_50": at_half.f1,
        "adjusted_rand": overlap_scores.adjusted_rand(table),
        **regions(there > 0, seen > 0),
        **distances(there > 0, seen > 0, hausdorff.boundary(there), hausdorff.boundary(seen), spacing),
    }
    return Scores(name, values, matched=matched)


def judge_classes(name: str, truth: Labels, found: Labels, ignore: int | None, spacing: Spacing) -> Scores:
    """Distances are the means over the classes above 0 that occur in either map."""
    table = overlap_scores.tabulate(truth, found, ignore)
    classes = overlap_scores.class_counts(table)
    there, seen = drop(truth, truth, ignore), drop(found, truth, ignore)
    of_classes = [masks_distances(there == value, seen == value, spacing) for value in classes if value > 0]
    values = {
        "mean_iou": overlap_scores.mean_iou(classes),
        "mean_dice": float(np.mean([each.dice for each in classes.values()])) if classes else 1.0,
        "accuracy": overlap_scores.ratio(
            sum(each.both for each in classes.values()), sum(each.truth for each in classes.values())
        ),
        **{
            key: float(np.mean([each[key] for each in of_classes])) if of_classes else 0.0
            for key in DISTANCES
        },
    }
    return Scores(name, values, classes=classes)


def judge_binary(name: str, truth: Labels, found: Labels, ignore: int | None, spacing: Spacing) -> Scores:
    there, seen = drop(truth, truth, ignore) > 0, drop(found, truth, ignore) > 0
    return Scores(name, {**regions(there, seen), **masks_distances(there, seen, spacing)})


def drop(values: Labels, truth: Labels, ignore: int | None) -> Labels:
    """Background where the truth is `ignore`."""
    return values if ignore is None else np.where(truth == ignore, 0, values)


def regions(truth: Bool, found: Bool) -> dict[str, float]:
    return {"iou": geometry.iou(truth, found), "dice": overlap_scores.dice(truth, found)}


def masks_distances(truth: Bool, found: Bool, spacing: Spacing) -> dict[str, float]:
    return distances(truth, found, hausdorff.boundary(truth), hausdorff.boundary(found), spacing)


def distances(
    truth: Bool, found: Bool, truth_edge: Bool, found_edge: Bool, spacing: Spacing
) -> dict[str, float]:
    scale = np.array(spacing)
    inside = hausdorff.between_regions(truth, found, spacing)
    edges = hausdorff.between_points(np.argwhere(truth_edge) * scale, np.argwhere(found_edge) * scale)
    four = (inside.hausdorff, inside.hausdorff_95, edges.hausdorff, edges.hausdorff_95)
    return dict(zip(DISTANCES, four, strict=True))


def summarise(kind: Kind, images: Sequence[Scores]) -> Judgement:
    """At least one image."""
    names = images[0].values
    finite = {n: [s.values[n] for s in images if math.isfinite(s.values[n])] for n in names}
    classes = add_up(each.classes for each in images)
    pooled: dict[str, float] = {}
    if kind is Kind.LABELS:
        matched = object_matching.pool([each.matched for each in images])
        half = matched[object_matching.AT_50]
        pooled = {"msa": object_matching.mean_accuracy(matched), "sa50": half.accuracy, "f1_50": half.f1}
    if kind is Kind.CLASSES:
        pooled = {"mean_iou": overlap_scores.mean_iou(classes)}
    return Judgement(
        kind,
        list(images),
        mean={n: float(np.mean(values)) if values else math.inf for n, values in finite.items()},
        not_finite={
            n: len(images) - len(values) for n, values in finite.items() if len(values) < len(images)
        },
        pooled=pooled,
        class_iou={value: counts.iou for value, counts in classes.items()},
    )


def add_up(images: Iterable[dict[int, ClassCounts]]) -> dict[int, ClassCounts]:
    total: dict[int, ClassCounts] = {}
    for image in images:
        for value, counts in image.items():
            total[value] = total.get(value, ClassCounts()) + counts
    return dict(sorted(total.items()))


def plain(value: Any) -> Any:
    """For JSON, which knows no infinity: null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(judgement: Judgement, unit: str) -> dict[str, Any]:
    """unit: of distances."""

    def tidy(values: dict[Any, Any]) -> dict[str, Any]:
        return {str(key): plain(value) for key, value in values.items()}

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
