"""Which of the decoder's masks are answered: by predicted score, or by SAM 2's stability rule."""

import numpy as np

from segserve.decode.prompt_encoding import SINGLE_TOKEN
from segserve.models.manifest import ModelKind
from segserve.types import Float32, Select

# SAM 2's rule for a single mask, with the defaults of sam2's build_sam2: a mask is stable if shifting the threshold
# by +-DELTA keeps at least this share of its area.
STABILITY_DELTA = 0.05
MIN_STABILITY = 0.98


def is_stable(logits: Float32) -> bool:
    """Return whether the area at threshold +DELTA is at least MIN_STABILITY of the area at -DELTA. logits [h, w]."""
    outer = np.count_nonzero(logits > -STABILITY_DELTA)
    return outer == 0 or bool(np.count_nonzero(logits > STABILITY_DELTA) / outer >= MIN_STABILITY)


def choose_masks(
    logits: Float32, scores: Float32, tokens: list[int], kind: ModelKind, select: Select
) -> list[int]:
    """Return the positions of the masks to answer with.

    logits: [M, h, w]. scores: [M], predicted IoU. tokens: the mask token of each of the M.
    """
    if kind is ModelKind.SAM2 and tokens[0] == SINGLE_TOKEN:
        return [0] if is_stable(logits[0]) else [1 + int(scores[1:].argmax())]
    if select is Select.BEST:
        return [int(scores.argmax())]
    return list(range(len(tokens)))
