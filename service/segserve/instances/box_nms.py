"""Box selection: which boxes are objects, by score threshold and NMS per class.

As torchvision's `RoIHeads.postprocess_detections` (models/detection/roi_heads.py).
"""

from dataclasses import dataclass

import numpy as np

from segserve.masks.nms import nms
from segserve.types import Bool, Float32, Int64

MIN_BOX_SIDE_PX = 0.01  # boxes with a shorter side are no objects, as in torchvision


@dataclass(frozen=True)
class DetectionThresholds:
    """What makes a box an object, and a pixel part of its mask.

    score: an object's score is higher than this.
    nms: of two boxes of a class whose IoU is higher than this, the one with the lower score is removed.
    mask: a pixel of an object has at least this probability.
    max_objects: only so many objects with the highest scores are kept.
    labels: [C], the requested classes; None for all but the background.
    """

    score: float
    nms: float
    mask: float
    max_objects: int
    labels: Bool | None = None


@dataclass(frozen=True)
class SelectedBoxes:
    """The boxes that are objects, by descending score.

    boxes: [M, 4] in pixels of the resized image.
    scores: [M].
    labels: [M], indices of classes.
    """

    boxes: Float32
    scores: Float32
    labels: Int64


def select_boxes(boxes: Float32, scores: Float32, thresholds: DetectionThresholds) -> SelectedBoxes:
    """Select the boxes that are objects.

    boxes: [N, C, 4] of N regions and C classes; class 0 is the background.
    scores: [N, C].
    """
    is_candidate = scores > np.float32(thresholds.score)
    is_candidate &= np.arange(scores.shape[1]) > 0 if thresholds.labels is None else thresholds.labels
    is_candidate &= (boxes[:, :, 2:] - boxes[:, :, :2] >= np.float32(MIN_BOX_SIDE_PX)).all(2)
    regions, labels = np.nonzero(is_candidate)
    order = np.argsort(-scores[regions, labels], kind="stable")
    regions, labels = regions[order], labels[order]
    is_kept = np.zeros(len(regions), np.bool_)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        class_boxes, class_scores = boxes[regions[of_class], label], scores[regions[of_class], label]
        is_kept[of_class[nms(class_boxes, class_scores, thresholds.nms, thresholds.max_objects)]] = True
    regions, labels = regions[is_kept][: thresholds.max_objects], labels[is_kept][: thresholds.max_objects]
    return SelectedBoxes(boxes[regions, labels], scores[regions, labels], labels)
