"""Scores of objects that were followed through volumes, against their labels.

    IoU         of an object on a slice; only slices where the label is not empty count, as in arXiv 2408.00756
    3D Dice     of an object, over all slices
    Hausdorff   of an object, between the surfaces of both masks in space, with its 95th percentile

A label's IoU is the mean over its slices in all volumes. The overall IoU is the mean over the slices of all labels, and
3D Dice and the distances are means over objects: one label in one volume. Distances of objects that were lost on all
slices are infinite, and counted beside the mean.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.evaluate import hausdorff, overlap_scores
from segserve.evaluate.scores import finite_or_none
from segserve.masks.geometry import iou
from segserve.types import Bool

VolumeSpacing = tuple[float, float, float]


@dataclass(frozen=True)
class ObjectScores:
    """The scores of one label in one volume.

    slice_ious: the IoU by slice, of the slices where the label is not empty.
    hausdorff, hausdorff_95: in the unit of the spacing; infinite where the object was lost on all slices.
    """

    label: int
    slice_ious: dict[int, float]
    dice: float
    hausdorff: float
    hausdorff_95: float

    @property
    def iou(self) -> float:
        """The mean over the slices."""
        return float(np.mean(list(self.slice_ious.values())))


@dataclass(frozen=True)
class MeanScores:
    """Scores over many objects.

    objects, slices: how many were averaged. lost: objects that no mask was found of; the distances are without them,
    and infinite where all were lost.
    """

    objects: int
    slices: int
    iou: float
    dice: float
    hausdorff: float
    hausdorff_95: float
    lost: int


def score_object(label: int, truth: Bool, prediction: Bool, spacing: VolumeSpacing) -> ObjectScores:
    """Score a prediction [N, H, W] against the label's mask [N, H, W], which is not empty.

    spacing: from slice to slice, row to row and column to column.
    """
    occupied = np.flatnonzero(truth.any(axis=(1, 2)))
    window = crop_to_masks(truth, prediction)
    surfaces = (
        np.argwhere(hausdorff.find_boundaries(mask[window])) * np.array(spacing)
        for mask in (truth, prediction)
    )
    distance = hausdorff.point_hausdorff(*surfaces)
    return ObjectScores(
        label,
        {int(index): iou(truth[index], prediction[index]) for index in occupied},
        overlap_scores.dice(truth[window], prediction[window]),
        distance.hausdorff,
        distance.hausdorff_95,
    )


def crop_to_masks(*masks: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest window that holds all masks [N, H, W], of which one is not empty."""
    window = []
    for axis in range(3):
        others = tuple(each for each in range(3) if each != axis)
        used = np.flatnonzero(np.any([mask.any(axis=others) for mask in masks], axis=0))
        window.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(window)


def average_scores(scores: Sequence[ObjectScores]) -> MeanScores:
    """Average the scores of at least one object."""
    slices = [value for each in scores for value in each.slice_ious.values()]
    found = [each for each in scores if math.isfinite(each.hausdorff)]
    return MeanScores(
        objects=len(scores),
        slices=len(slices),
        iou=float(np.mean(slices)),
        dice=float(np.mean([each.dice for each in scores])),
        hausdorff=float(np.mean([each.hausdorff for each in found])) if found else math.inf,
        hausdorff_95=float(np.mean([each.hausdorff_95 for each in found])) if found else math.inf,
        lost=len(scores) - len(found),
    )


def average_by_label(scores: Iterable[ObjectScores]) -> dict[int, MeanScores]:
    """Return the mean scores of each label over all volumes, by label."""
    by_label: dict[int, list[ObjectScores]] = {}
    for each in scores:
        by_label.setdefault(each.label, []).append(each)
    return {label: average_scores(by_label[label]) for label in sorted(by_label)}


def object_to_json(scores: ObjectScores) -> dict[str, Any]:
    """Return the scores as JSON values: None for an infinite distance."""
    return {
        "label": scores.label,
        "iou": scores.iou,
        "dice": scores.dice,
        "hausdorff": finite_or_none(scores.hausdorff),
        "hausdorff_95": finite_or_none(scores.hausdorff_95),
        "slice_ious": {str(index): value for index, value in scores.slice_ious.items()},
    }


def object_from_json(fields: Mapping[str, Any]) -> ObjectScores:
    """Return what `object_to_json` made `fields` of."""

    def number(value: float | None) -> float:
        return math.inf if value is None else float(value)

    return ObjectScores(
        int(fields["label"]),
        {int(index): float(value) for index, value in fields["slice_ious"].items()},
        float(fields["dice"]),
        number(fields["hausdorff"]),
        number(fields["hausdorff_95"]),
    )


def means_to_json(scores: MeanScores) -> dict[str, Any]:
    """Return the scores as JSON values: None for infinite distances."""
    return {name: finite_or_none(value) for name, value in vars(scores).items()}
