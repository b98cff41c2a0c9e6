"""What the decoder answers for a grid of points: candidates, of which the filters choose.

They are kept as low-res logits, cut to where they can matter and in fp16, so that every threshold can be changed
without running the decoder again. Candidates of a deleted image are forgotten everywhere.
"""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.decode.prompt_encoding import CANDIDATES, SINGLE, encode_tokens
from segserve.encode.prepared_cache import PreparedImage
from segserve.masks.geometry import bounding_box
from segserve.masks.upscale import MaskMeasure
from segserve.models.manifest import PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Float16, Float32, Prompt

LOGIT_DEPTH = 4.0  # how far below the mask's threshold logits are kept: offsets up to it need no decoder
PATCH_MARGIN_PX = 2  # low-res pixels around them: what an upscaled pixel sees lies within
PATCH_DTYPE = np.float16


@dataclass(frozen=True)
class LogitsPatch:
    """Low-res logits [h, w], less the mask's threshold, their top left corner at (x, y); elsewhere they are below
    the reach. fp16 is finest near 0, where it decides about pixels."""

    logits: Float16
    x: int
    y: int


@dataclass(frozen=True)
class AmgCandidate:
    """point: (x, y) in pixels of what was encoded. score: predicted IoU."""

    point: tuple[float, float]
    score: float
    patch: LogitsPatch


class AmgCandidates:
    """Of one grid, in the order of its points. reach: how far below the mask's threshold logits are kept."""

    def __init__(self, reach: float, found: list[AmgCandidate]) -> None:
        self.reach, self.found = reach, found
        self.nbytes = sum(size_of(each) for each in found)
        self._measured: tuple[float, dict[int, MaskMeasure]] = (0.0, {})

    def add(self, found: list[AmgCandidate]) -> None:
        self.found += found
        self.nbytes += sum(size_of(each) for each in found)

    def logits(self, index: int, low: int) -> Float32:
        """[low, low], less the mask's threshold, whole again: by how much the rest is below the reach is forgotten."""
        patch = self.found[index].patch
        logits = np.full((low, low), -self.reach - 1, np.float32)
        height, width = patch.logits.shape
        logits[patch.y : patch.y + height, patch.x : patch.x + width] = patch.logits
        return logits

    def extents_at(self, offset: float) -> dict[int, MaskMeasure]:
        """What was measured of them with this stability offset, by position, to be added to. Another offset's
        is forgotten."""
        measured_at, extents = self._measured
        if measured_at != offset:
            extents = {}
            self._measured = (offset, extents)
        return extents


def size_of(candidate: AmgCandidate) -> int:
    """Roughly: besides its logits it takes a kilobyte, with its extent."""
    return 1024 + candidate.patch.logits.nbytes


def cut_patch(logits: Float32, reach: float) -> LogitsPatch:
    """The part of low-res logits [h, w], less the mask's threshold, that decides about pixels above -reach."""
    x0, y0, x1, y1 = bounding_box(logits > -reach)
    if x0 == x1:
        return LogitsPatch(np.zeros((0, 0), PATCH_DTYPE), 0, 0)
    top, left = max(0, y0 - PATCH_MARGIN_PX), max(0, x0 - PATCH_MARGIN_PX)
    part = logits[top : y1 + PATCH_MARGIN_PX, left : x1 + PATCH_MARGIN_PX]
    return LogitsPatch(part.astype(PATCH_DTYPE), left, top)


def find_mask_channels(manifest: PromptableManifest) -> list[int]:
    """The mask tokens of different extent, or the single mask of a decoder that has no others."""
    return [token for token in CANDIDATES if token in manifest.dims.masks] or [SINGLE]


def decode_point(
    model: PromptableModel, image: PreparedImage, x: float, y: float, reach: float
) -> list[AmgCandidate]:
    """One click on the prepared image, start to end, in the calling thread."""
    click = Prompt(points=np.array([[x, y]], np.float32), labels=np.ones(1, np.int64))
    channels = find_mask_channels(model.manifest)
    logits, scores = model.decode(image.prepared, *encode_tokens(click, model.manifest, image.size), channels)
    logits = logits - np.float32(model.manifest.mask_threshold)
    return [
        AmgCandidate((x, y), float(score), cut_patch(each, reach))
        for each, score in zip(logits, scores[channels], strict=True)
    ]


def decode_points(
    model: PromptableModel,
    image: PreparedImage,
    points: NDArray[np.float64],
    reach: float,
    workers: Executor,
    timings: Timings,
) -> list[AmgCandidate]:
    """points [N, 2] in pixels of the prepared image. Side by side in the workers: a click does not profit from
    being decoded with others, nor from a second thread as much as two clicks do from one each."""
    with timings.stage("decode"):
        side_by_side = model.single_threaded
        answers = workers.map(
            lambda at: decode_point(side_by_side, image, at[0], at[1], reach), points.tolist()
        )
        return [candidate for answer in answers for candidate in answer]
