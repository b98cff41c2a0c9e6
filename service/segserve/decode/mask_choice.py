"""Which of the decoder's masks are answered: by predicted score among usable ones, or by SAM 2's stability rule."""

import math

import numpy as np

from segserve.decode.prompt_encoding import SINGLE_TOKEN
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import ModelKind
from segserve.types import Bool, Float32, Select

# SAM 2's rule for a single mask, with the defaults of sam2's build_sam2: a mask is stable if shifting the threshold
# by +-DELTA keeps at least this share of its area.
STABILITY_DELTA = 0.05
MIN_STABILITY = 0.98
# A mask of more than this share of the image is the image, not an object on it.
MAX_IMAGE_SHARE = 0.95


def is_stable(logits: Float32) -> bool:
    """Return whether the area at threshold +DELTA is at least MIN_STABILITY of the area at -DELTA. logits [h, w]."""
    outer = np.count_nonzero(logits > -STABILITY_DELTA)
    return outer == 0 or bool(np.count_nonzero(logits > STABILITY_DELTA) / outer >= MIN_STABILITY)


def find_usable(masks: Bool, geometry: LogitsGeometry) -> Bool:
    """Return [M]: whether each of the low-res masks [M, h, w] has pixels, and is not the whole image."""
    height, width = (
        math.ceil(side * geometry.low / geometry.square)
        for side in (geometry.valid.height, geometry.valid.width)
    )
    areas = np.count_nonzero(masks[:, :height, :width], axis=(1, 2))
    return np.asarray((areas > 0) & (areas <= MAX_IMAGE_SHARE * height * width))


def choose_masks(
    logits: Float32, scores: Float32, usable: Bool, tokens: list[int], kind: ModelKind, select: Select
) -> list[int]:
    """Return the positions of the masks to answer with.

    logits: [M, h, w]. scores: [M], predicted IoU. tokens: the mask token of each of the M.
    usable: [M]. The best is one of these, if there are any.
    """
    if kind is ModelKind.SAM2 and tokens[0] == SINGLE_TOKEN:
        return [0] if is_stable(logits[0]) else [1 + find_best(scores[1:], usable[1:])]
    if select is Select.BEST:
        return [find_best(scores, usable)]
    return list(range(len(tokens)))


def find_best(scores: Float32, usable: Bool) -> int:
    """Return the position of the highest score, among the usable ones if there are any."""
    return int(np.where(usable, scores, -np.inf).argmax() if usable.any() else scores.argmax())
