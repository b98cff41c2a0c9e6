"""The search of one image or tile for objects like the examples.

A round clicks where the embedding is like the examples, takes of each click the candidate that is most like them in
descriptor and in size, and keeps the best of those that overlap. The next round counts what was found as examples too,
and looks where nothing was found yet.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from segserve.decode.object_descriptor import measure_descriptor, normalize_cells
from segserve.decode.prompt_encoding import (
    CANDIDATE_TOKENS,
    SINGLE_TOKEN,
    encode_tokens,
    find_marks,
    logits_geometry,
)
from segserve.encode.prepared_cache import PreparedImage
from segserve.errors import TooLarge
from segserve.masks import crop as crops
from segserve.masks.clean import clean_logits
from segserve.masks.upscale import upscale_mask
from segserve.models.promptable_model import PromptableModel
from segserve.similar.click_points import (
    MAX_POINTS,
    find_points,
    measure_pixel,
    smooth_response,
)
from segserve.similar.examples import ExampleSet
from segserve.similar.likeness import fit_likeness
from segserve.similar.options import SimilarOptions
from segserve.types import Bool, Crop, Float32, Prompt

# A place is clicked where the response is at least this share of what an object needs: the mask is judged later, by all
# of its cells.
MIN_RESPONSE_SHARE = 0.8
MAX_MASK_BYTES = 1 << 30  # all masks of a search, with one byte for each pixel of their boxes
# A mask of which more than this share belongs to masks that are more like the examples is left out.
MAX_TAKEN_SHARE = 0.3


@dataclass(frozen=True)
class RatedMask:
    """A mask of a click, as like the examples as it is.

    logits: [low, low], cleaned. area: in pixels of the region. score: the IoU that the model predicts.
    rank: likeness, size and score together; the best mask has the highest.
    """

    logits: Float32
    area: float
    score: float
    descriptor: Float32
    likeness: float
    rank: float


@dataclass(frozen=True)
class SimilarObject:
    """One object that was found.

    crop: in pixels of the region, or of the image. low: its mask in low-res pixels of the region.
    score, descriptor, likeness, rank: see `RatedMask`.
    """

    crop: Crop
    low: Crop
    score: float
    descriptor: Float32
    likeness: float
    rank: float


class RegionSearch:
    """`RegionSearch` searches one encoded image or region, round by round. Its methods block.

    taken: [low, low], where the examples are, if they are on this region.
    held_bytes: of the masks that were found on other regions.
    """

    def __init__(
        self,
        model: PromptableModel,
        image: PreparedImage,
        examples: ExampleSet,
        options: SimilarOptions,
        taken: Bool,
        held_bytes: int = 0,
    ) -> None:
        self._model, self._image, self._examples, self._options = model, image, examples, options
        self._geometry = logits_geometry(model.manifest, image.size)
        self._pixel = measure_pixel(self._geometry)
        self._embedding = image.embedding["embedding"]
        self._taken = taken.copy()
        self._scale = examples.scale
        self._bytes_lock = threading.Lock()
        self._base_bytes = self._held_bytes = held_bytes
        self.found: list[SimilarObject] = []
        self.similar_share = 0.0  # part of the region whose response an object would need, in the last round

    def begin_round(self) -> list[tuple[float, float]]:
        """Return the points to click, (x, y) in pixels of the region, the most promising first."""
        examples, options = self._examples, self._options
        descriptors = [*examples.descriptors, *(item.descriptor for item in self.found)]
        self._scale = fit_likeness(examples.background, descriptors) or examples.scale
        rows, columns = self._geometry.valid_low
        cell = self._geometry.low // self._embedding.shape[1]
        diameter = examples.diameter / float(np.sqrt(self._pixel.prod()))
        cells = normalize_cells(self._embedding[:, : -(-rows // cell), : -(-columns // cell)])
        response = smooth_response(self._scale.score_cells(cells), cell, (rows, columns), diameter)
        needed = options.min_likeness * examples.peak_response
        self.similar_share = float(np.mean(response >= needed))
        taken = self._taken[:rows, :columns]
        points = find_points(response, taken, diameter, MIN_RESPONSE_SHARE * needed, MAX_POINTS)
        limit = np.array([self._image.size.width - 1, self._image.size.height - 1])
        return [(float(x), float(y)) for x, y in np.minimum((points + 0.5) * self._pixel, limit)]

    def decode(self, point: tuple[float, float]) -> SimilarObject | None:
        """Return the candidate of a click that is most like the examples, if it is like enough.

        Several threads may call it at the same time, between the begin and the end of a round. Raises TooLarge.
        """
        model = self._model.single_threaded
        manifest, size = model.manifest, self._image.size
        threshold = manifest.mask_threshold
        click = Prompt(np.array([point], np.float32), np.ones(1, np.int64))
        tokens = [token for token in CANDIDATE_TOKENS if token in manifest.dims.masks] or [SINGLE_TOKEN]
        logits, scores = model.decode(self._image.prepared, *encode_tokens(click, manifest, size), tokens)
        marks = find_marks(click, None, manifest, size)
        rated = [
            self._rate(clean_logits(mask, threshold, marks).logits, float(score))
            for mask, score in zip(logits, scores[tokens], strict=True)
        ]
        best = max(rated, key=lambda mask: mask.rank)
        if not self._is_similar(best):
            return None
        low = crops.from_mask(best.logits > threshold)
        low = Crop(low.pixels.copy(), low.x, low.y, low.size)  # a view would keep the whole mask
        self._hold_bytes(round(low.pixels.size * float(self._pixel.prod())))
        crop = upscale_mask(best.logits, self._geometry, threshold)
        return SimilarObject(crop, low, best.score, best.descriptor, best.likeness, best.rank)

    def _hold_bytes(self, count: int) -> None:
        """Count the bytes of a mask before it is made. Raises TooLarge."""
        with self._bytes_lock:
            self._held_bytes += count
            if self._held_bytes > MAX_MASK_BYTES:
                raise TooLarge(
                    f"The masks of the search take more than {MAX_MASK_BYTES >> 20} MB.",
                    field="params",
                    remedy="Raise min_likeness or min_score, or lower max_size_ratio.",
                )

    def _rate(self, logits: Float32, score: float) -> RatedMask:
        low: Bool = logits > self._model.manifest.mask_threshold
        descriptor = measure_descriptor(self._embedding, low)
        likeness, examples = self._scale.score(descriptor), self._examples
        area = float(np.count_nonzero(low) * self._pixel.prod())
        size_likeness = min(1.0, area / examples.min_area, examples.max_area / max(area, 1.0))
        return RatedMask(
            logits, area, score, descriptor, likeness, min(likeness, 1.0) * size_likeness * score
        )

    def _is_similar(self, mask: RatedMask) -> bool:
        options, examples = self._options, self._examples
        return (
            mask.area > 0
            and mask.likeness >= options.min_likeness
            and mask.score >= options.min_score
            and examples.min_area <= mask.area * options.max_size_ratio
            and mask.area <= examples.max_area * options.max_size_ratio
        )

    def end_round(self, candidates: Iterable[SimilarObject | None]) -> int:
        """Keep the best of the candidates that overlap each other or what is taken. Returns how many are new."""
        before = len(self.found)
        for item in sorted((item for item in candidates if item is not None), key=lambda item: -item.rank):
            taken = cut(self._taken, item.low)
            area = np.count_nonzero(item.low.pixels)
            if np.count_nonzero(taken & item.low.pixels) <= MAX_TAKEN_SHARE * area:
                taken |= item.low.pixels
                self.found.append(item)
        self._held_bytes = self._base_bytes + sum(item.crop.pixels.size for item in self.found)
        return len(self.found) - before


def cut(mask: Bool, crop: Crop) -> Bool:
    """Return the part of a mask [h, w] where the crop lies, as a view."""
    height, width = crop.pixels.shape
    return mask[crop.y : crop.y + height, crop.x : crop.x + width]
