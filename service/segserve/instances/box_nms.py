"""Which boxes are objects: torchvision's `RoIHeads.postprocess_detections` (models/detection/roi_heads.py)."""

from dataclasses import dataclass

import numpy as np

from segserve.types import Bool, Float32, Int64

SMALLEST = 0.01  # pixels; boxes with a shorter side are none


@dataclass(frozen=True)
class Thresholds:
    """score: objects have more. nms: of two boxes of a class with a higher IoU the one with the lower score goes.
    mask: pixels of an object have at least this probability. most: objects, by descending score. labels [C]:
    the classes that are wanted; None for all but the background."""

    score: float
    nms: float
    mask: float
    most: int
    labels: Bool | None = None


@dataclass(frozen=True)
class Chosen:
    """boxes [M, 4] in pixels of the resized image, scores [M] descending, labels [M]."""

    boxes: Float32
    scores: Float32
    labels: Int64


def choose(boxes: Float32, scores: Float32, limits: Thresholds) -> Chosen:
    """boxes [N, C, 4] and scores [N, C] of N regions and C classes, class 0 being the background."""
    wanted = scores > np.float32(limits.score)
    wanted &= np.arange(scores.shape[1]) > 0 if limits.labels is None else limits.labels
    wanted &= (boxes[:, :, 2:] - boxes[:, :, :2] >= np.float32(SMALLEST)).all(2)
    regions, labels = np.nonzero(wanted)
    order = np.argsort(-scores[regions, labels], kind="stable")
    regions, labels = regions[order], labels[order]
    kept = np.zeros(len(regions), np.bool_)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        kept[of_class[suppress(boxes[regions[of_class], label], limits.nms, limits.most)]] = True
    regions, labels = regions[kept][: limits.most], labels[kept][: limits.most]
    return Chosen(boxes[regions, labels], scores[regions, labels], labels)


def suppress(boxes: Float32, threshold: float, most: int) -> list[int]:
    """The first `most` of the boxes [n, 4], best first, that none before them overlaps by more than `threshold`.
    In float32, as torchvision.ops.nms computes it on a CPU."""
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0) * (y1 - y0)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while left.size and len(kept) < most:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        widths = np.minimum(x1[best], x1[left]) - np.maximum(x0[best], x0[left])
        heights = np.minimum(y1[best], y1[left]) - np.maximum(y0[best], y0[left])
        shared = np.maximum(widths, 0) * np.maximum(heights, 0)
        overlap = shared / (areas[best] + areas[left] - shared)
        left = left[overlap <= np.float64(threshold)]
    return kept
