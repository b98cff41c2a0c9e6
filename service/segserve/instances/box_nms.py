"""Which boxes are objects: torchvision's `RoIHeads.postprocess_detections` (models/detection/roi_heads.py)."""

from dataclasses import dataclass

import numpy as np

from segserve.masks.nms import nms
from segserve.types import Bool, Float32, Int64

MIN_BOX_SIDE_PX = 0.01  # pixels; boxes with a shorter side are none


@dataclass(frozen=True)
class DetectionThresholds:
    """score: objects have more. nms: of two boxes of a class with a higher IoU the one with the lower score goes.
    mask: pixels of an object have at least this probability. max_objects: objects, by descending score. labels [C]:
    the classes that are wanted; None for all but the background."""

    score: float
    nms: float
    mask: float
    max_objects: int
    labels: Bool | None = None


@dataclass(frozen=True)
class SelectedBoxes:
    """boxes [M, 4] in pixels of the resized image, scores [M] descending, labels [M]."""

    boxes: Float32
    scores: Float32
    labels: Int64


def select_boxes(boxes: Float32, scores: Float32, limits: DetectionThresholds) -> SelectedBoxes:
    """boxes [N, C, 4] and scores [N, C] of N regions and C classes, class 0 being the background."""
    wanted = scores > np.float32(limits.score)
    wanted &= np.arange(scores.shape[1]) > 0 if limits.labels is None else limits.labels
    wanted &= (boxes[:, :, 2:] - boxes[:, :, :2] >= np.float32(MIN_BOX_SIDE_PX)).all(2)
    regions, labels = np.nonzero(wanted)
    order = np.argsort(-scores[regions, labels], kind="stable")
    regions, labels = regions[order], labels[order]
    kept = np.zeros(len(regions), np.bool_)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        class_boxes, class_scores = boxes[regions[of_class], label], scores[regions[of_class], label]
        kept[of_class[nms(class_boxes, class_scores, limits.nms, limits.max_objects)]] = True
    regions, labels = regions[kept][: limits.max_objects], labels[kept][: limits.max_objects]
    return SelectedBoxes(boxes[regions, labels], scores[regions, labels], labels)
