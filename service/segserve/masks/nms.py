"""Non-maximum suppression (NMS) of boxes, as `torchvision.ops.nms` does it on a CPU.

Comparisons are made in fp32, as in torch, so a box whose IoU lies on the threshold gets the same decision.
"""

import numpy as np
from numpy.typing import NDArray

from segserve.types import Float32

Int = NDArray[np.int64]


def nms(boxes: Float32, scores: Float32, threshold: float, max_boxes: int | None = None) -> Int:
    """Return the positions of the boxes [N, 4] that stay, by descending score [N].

    Of two boxes whose IoU exceeds the threshold, the one with the higher score stays; of equal scores, the earlier.
    boxes: (x0, y0, x1, y1) each.
    max_boxes: stop when so many boxes stay; None is no limit.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while order.size and (max_boxes is None or len(kept) < max_boxes):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        across = np.minimum(boxes[best, 2], boxes[rest, 2]) - np.maximum(boxes[best, 0], boxes[rest, 0])
        down = np.minimum(boxes[best, 3], boxes[rest, 3]) - np.maximum(boxes[best, 1], boxes[rest, 1])
        common = np.maximum(across, 0) * np.maximum(down, 0)
        with np.errstate(invalid="ignore"):  # boxes of one pixel's width have no area: 0 / 0 exceeds nothing
            iou = common / (areas[best] + areas[rest] - common)
        order = rest[~(iou > np.float64(threshold))]
    return np.array(kept, np.int64)
