"""Which of the decoder's masks are answered: by predicted score, stability and the prompt, or by SAM 2's rule."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from segserve.decode.prompt_encoding import SINGLE_TOKEN
from segserve.masks.clean import CleanedLogits, Marks, clean_logits
from segserve.masks.geometry import bounding_box
from segserve.masks.upscale import LogitsGeometry
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.types import Float32, Select

# SAM 2's rule for a single mask, with the defaults of sam2's build_sam2: a mask is stable if shifting the threshold
# by +-DELTA keeps at least this share of its area.
STABILITY_DELTA = 0.05
MIN_STABILITY = 0.98
# A mask of more than this share of the image is the image, not an object on it.
MAX_IMAGE_SHARE = 0.95

# What counts beside a mask's score, measured with the starter and MobileSAM on nuclei, cells and coins:
# its stability, at the offset of segment-anything's automatic mask generator,
STABILITY_OFFSET = 1.0
STABILITY_WEIGHT = 0.25
# how well its box is the prompt's,
BOX_WEIGHT = 0.5
# and, among several clicks, that it is the single mask, which is trained for them.
SINGLE_BONUS = 0.15
# A single mask whose box is the prompt's by this IoU is the answer: no other is decoded.
MIN_BOX_IOU = 0.9


class DecodedMask:
    """`DecodedMask` is one mask of the decoder, and how good an answer to the prompt it is. It is cleaned when somebody
    first asks.

    logits: low-res [h, w]. score: predicted IoU. token: the mask token that it came from.
    marks: of the prompt; None leaves the mask as it is, and its value is the score.
    """

    def __init__(
        self,
        logits: Float32,
        score: float,
        token: int,
        geometry: LogitsGeometry,
        manifest: PromptableManifest,
        marks: Marks | None,
    ) -> None:
        self.logits, self.score, self.token = logits, score, token
        self._geometry, self._marks = geometry, marks
        self._threshold, self._kind = manifest.mask_threshold, manifest.kind

    @cached_property
    def cleaned(self) -> CleanedLogits:
        if self._marks is None:
            return CleanedLogits(self.logits, 0, 0)
        return clean_logits(self.logits, self._threshold, self._marks)

    @cached_property
    def is_usable(self) -> bool:
        """Whether it has pixels, and is not the whole image."""
        if self._marks is None:
            return True
        return 0 < float(np.mean(self._valid_logits > self._threshold)) <= MAX_IMAGE_SHARE

    @cached_property
    def value(self) -> float:
        """Its score, and for SAM what else counts. Masks for one prompt can be compared by it."""
        if self._marks is None or self._kind is ModelKind.SAM2:
            return self.score
        value = self.score + STABILITY_WEIGHT * compute_stability(self._valid_logits, self._threshold)
        if self._marks.box is not None:
            value += BOX_WEIGHT * self.box_iou(self._marks.box)
        if self.token == SINGLE_TOKEN and len(self._marks.positive) + len(self._marks.negative):
            value += SINGLE_BONUS
        return value

    def box_iou(self, box: tuple[float, float, float, float]) -> float:
        """Return the IoU of the cleaned mask's box and another one, in pixels of the logits."""
        return compute_box_iou(bounding_box(self.cleaned.logits > self._threshold), box)

    def may_be_beaten(self, best_score: float) -> bool:
        """Return whether a candidate of this score may be the better answer."""
        if self._marks is None or self._marks.prior is not None:
            return False  # what refines an earlier mask is the single mask
        if self._marks.box is not None:
            return self.box_iou(self._marks.box) < MIN_BOX_IOU
        return not self.is_usable or best_score + STABILITY_WEIGHT > self.value

    @property
    def _valid_logits(self) -> Float32:
        """The part of the logits that shows the image."""
        rows, columns = self._geometry.valid_low
        return self.logits[:rows, :columns]


def find_best(masks: Sequence[DecodedMask]) -> DecodedMask:
    """Return the mask of the highest value, among the usable ones if there are any. The first one of equals."""
    return max([mask for mask in masks if mask.is_usable] or masks, key=lambda mask: mask.value)


def choose_masks(masks: Sequence[DecodedMask], kind: ModelKind, select: Select) -> list[DecodedMask]:
    """Return the masks to answer with, of those that were decoded for a prompt."""
    if kind is ModelKind.SAM2 and masks[0].token == SINGLE_TOKEN:
        return [masks[0]] if is_stable(masks[0].logits) else [find_best(masks[1:])]
    return [find_best(masks)] if select is Select.BEST and len(masks) > 1 else list(masks)


def compute_stability(logits: Float32, threshold: float) -> float:
    """Return the IoU of the masks at the threshold +- STABILITY_OFFSET, 0 to 1; 0 for an empty mask."""
    outer = np.count_nonzero(logits > threshold - STABILITY_OFFSET)
    return np.count_nonzero(logits > threshold + STABILITY_OFFSET) / outer if outer else 0.0


def compute_box_iou(
    first: tuple[float, float, float, float], second: tuple[float, float, float, float]
) -> float:
    """Return the IoU of two boxes (x0, y0, x1, y1)."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second))
    return width * height / (areas - width * height)


def is_stable(logits: Float32) -> bool:
    """Return whether the area at threshold +DELTA is at least MIN_STABILITY of the area at -DELTA. logits [h, w]."""
    outer = np.count_nonzero(logits > -STABILITY_DELTA)
    return outer == 0 or bool(np.count_nonzero(logits > STABILITY_DELTA) / outer >= MIN_STABILITY)
