"""AMG candidates: the masks that the decoder returns for a grid of points, before the filters.

Candidates are kept as low-res logits in fp16, cut to the part that can matter. So every threshold can change without
another run of the decoder.
"""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.decode.prompt_encoding import CANDIDATE_TOKENS, SINGLE_TOKEN, encode_tokens
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks.geometry import bounding_box
from segserve.masks.upscale import MaskMeasure
from segserve.models.manifest import PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Float16, Float32, Prompt

# Logits are kept down to this far below the mask's threshold: smaller stability offsets need no new decoder run.
LOGIT_DEPTH = 4.0
# Low-res pixels kept around them: an upscaled pixel depends on low-res pixels up to this far away.
PATCH_MARGIN_PX = 2
# fp16 is finest near 0, where the value decides whether a pixel belongs to the mask.
PATCH_DTYPE = np.float16


@dataclass(frozen=True)
class LogitsPatch:
    """A part of low-res logits, minus the mask's threshold. Outside it all logits are below -depth.

    logits: [h, w].
    x, y: its top left corner.
    """

    logits: Float16
    x: int
    y: int


@dataclass(frozen=True)
class AmgCandidate:
    """One mask of one click.

    point: (x, y) of the click, in pixels of the encoded image or crop.
    score: predicted IoU.
    """

    point: tuple[float, float]
    score: float
    patch: LogitsPatch


class AmgCandidates:
    """`AmgCandidates` holds the candidates of one grid, in the order of its points.

    depth: logits are kept down to this far below the mask's threshold.
    """

    def __init__(self, depth: float, items: list[AmgCandidate]) -> None:
        self.depth, self.items = depth, items
        self.nbytes = sum(estimate_bytes(item) for item in items)
        self._measures: tuple[float, dict[int, MaskMeasure]] = (0.0, {})

    def add(self, items: list[AmgCandidate]) -> None:
        """Append candidates."""
        self.items += items
        self.nbytes += sum(estimate_bytes(item) for item in items)

    def logits(self, index: int, low: int) -> Float32:
        """Return the logits [low, low] of a candidate, minus the mask's threshold.

        Outside the kept patch they are -depth - 1: their true values are not known, only that they are below -depth.
        """
        patch = self.items[index].patch
        logits = np.full((low, low), -self.depth - 1, np.float32)
        height, width = patch.logits.shape
        logits[patch.y : patch.y + height, patch.x : patch.x + width] = patch.logits
        return logits

    def measures_at(self, offset: float) -> dict[int, MaskMeasure]:
        """Return the measures of the candidates at a stability offset, by index, for the caller to complete.

        Only the measures of the last offset are kept.
        """
        kept_offset, measures = self._measures
        if kept_offset != offset:
            measures = {}
            self._measures = (offset, measures)
        return measures


def estimate_bytes(candidate: AmgCandidate) -> int:
    """Return roughly the memory of a candidate: its logits, and a kilobyte for the rest and its measure."""
    return 1024 + candidate.patch.logits.nbytes


def cut_patch(logits: Float32, depth: float) -> LogitsPatch:
    """Cut low-res logits [h, w], minus the mask's threshold, to the part that decides about pixels above -depth."""
    x0, y0, x1, y1 = bounding_box(logits > -depth)
    if x0 == x1:
        return LogitsPatch(np.zeros((0, 0), PATCH_DTYPE), 0, 0)
    top, left = max(0, y0 - PATCH_MARGIN_PX), max(0, x0 - PATCH_MARGIN_PX)
    part = logits[top : y1 + PATCH_MARGIN_PX, left : x1 + PATCH_MARGIN_PX]
    return LogitsPatch(part.astype(PATCH_DTYPE), left, top)


def select_mask_channels(manifest: PromptableManifest, *, multimask: bool) -> list[int]:
    """Return the decoder's multimask channels or its single mask: those that it has, if it has not both."""
    candidates = [token for token in CANDIDATE_TOKENS if token in manifest.dims.masks]
    single = [SINGLE_TOKEN] if SINGLE_TOKEN in manifest.dims.masks else []
    return candidates or single if multimask else single or candidates


def decode_point(
    model: PromptableModel, image: PreparedImage, x: float, y: float, depth: float, *, multimask: bool
) -> list[AmgCandidate]:
    """Decode one click at (x, y) on the prepared image, in the calling thread."""
    click = Prompt(points=np.array([[x, y]], np.float32), labels=np.ones(1, np.int64))
    channels = select_mask_channels(model.manifest, multimask=multimask)
    logits, scores = model.decode(image.prepared, *encode_tokens(click, model.manifest, image.size), channels)
    logits = logits - np.float32(model.manifest.mask_threshold)
    return [
        AmgCandidate((x, y), float(score), cut_patch(mask_logits, depth))
        for mask_logits, score in zip(logits, scores[channels], strict=True)
    ]


def decode_points(
    model: PromptableModel,
    image: PreparedImage,
    points: NDArray[np.float64],
    depth: float,
    threads: Executor,
    timings: Timings,
    multimask: bool,
) -> list[AmgCandidate]:
    """Decode clicks at `points` [N, 2], (x, y) in pixels of the prepared image, side by side.

    multimask: three candidates for each click, otherwise the single mask.

    One click per thread is fastest: decoding clicks in a batch gains nothing, and a second thread for one click gains
    less than a second click in parallel.
    """
    with timings.stage("decode"):
        single_threaded = model.single_threaded
        per_point = threads.map(
            lambda point: decode_point(
                single_threaded, image, point[0], point[1], depth, multimask=multimask
            ),
            points.tolist(),
        )
        return [candidate for candidates in per_point for candidate in candidates]
