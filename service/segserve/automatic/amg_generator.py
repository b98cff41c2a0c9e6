"""Automatic mask generation (AMG): a grid of clicks, and of all their masks those worth keeping (Kirillov et al.,
"Segment Anything", 2023, section 5; segment-anything 1.0, `SamAutomaticMaskGenerator`).

    grid -> decoder -> candidates | predicted IoU -> stability -> crop's edges -> NMS | NMS of crops -> small regions

What is left of the first bar is kept, see `automatic.amg_candidates`; what is right of it is done anew for every
request. Pixels are computed of those masks alone that come through; the others are measured (`masks.upscale`).
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from segserve.automatic.amg_candidate_cache import AmgCandidateCache
from segserve.automatic.amg_filters import AmgMask, combine_regions, filter_candidates
from segserve.automatic.parameters import AmgParams
from segserve.automatic.point_grids import plan_grid_regions
from segserve.bounded_executor import BoundedExecutor
from segserve.encode.embeddings import Embeddings
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Region, Size

MAX_MASK_BYTES = 1 << 30  # of all masks of an answer, a byte each pixel of their boxes

P = ParamSpec("P")
T = TypeVar("T")


class AmgGenerator:
    """turns: where the work on whole images is done; everything below it runs in their threads, in pieces."""

    def __init__(self, embeddings: Embeddings, grids: AmgCandidateCache, turns: BoundedExecutor) -> None:
        self._embeddings, self._grids, self._turns = embeddings, grids, turns

    async def generate(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        params: AmgParams,
        timings: Timings,
        region: Region | None = None,
    ) -> list[AmgMask]:
        """All masks of a stored image, or of a region as if it were an image of its own. Raises ImageNotFound,
        BadInput, TooLarge, Unavailable."""
        size = region.size if region else await self._embeddings.get_size(tenant, image_id, model)
        looked_at = plan_grid_regions(size, params)
        found: list[AmgMask] = []
        with self._turns.slot():
            for part in looked_at:
                at, offset = to_image_region(part.region, size, region), params.stability_score_offset
                candidates = await self._grids.get(tenant, image_id, model, part, at, offset, timings)
                room = MAX_MASK_BYTES - sum(each.crop.pixels.size for each in found)
                found += await self._turns.run_in_slot(
                    run_timed,
                    timings,
                    filter_candidates,
                    candidates,
                    model.manifest,
                    part.region,
                    size,
                    params,
                    room,
                )
            return await self._turns.run_in_slot(run_timed, timings, combine_regions, found, params)


def to_image_region(part: Region, size: Size, frame: Region | None) -> Region | None:
    """Where a part of the frame [size] lies on the image; None for all of it."""
    if frame is None:
        return None if part.size == size else part
    return Region(frame.x + part.x, frame.y + part.y, part.width, part.height)


def run_timed(timings: Timings, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with timings.stage("filter"):
        return work(*args, **kwargs)
