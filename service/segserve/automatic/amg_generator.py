"""AMG, automatic mask generation of Segment Anything: a grid of clicks, and the good masks among their results.

Kirillov et al., "Segment Anything", 2023, section 5; segment-anything 1.0, `SamAutomaticMaskGenerator`.

    grid -> decoder -> candidates | predicted IoU -> stability -> crop edges -> NMS | NMS of crops -> small regions

The candidates before the first bar are kept (`amg_candidate_cache.py`). The filters after it run for every request
(`amg_filters.py`).
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

MAX_MASK_BYTES = 1 << 30  # all masks of an answer, with one byte for each pixel of their boxes

P = ParamSpec("P")
T = TypeVar("T")


class AmgGenerator:
    """`AmgGenerator` returns the masks of an image for the clicks of a grid.

    executor: runs the work on whole images. A request holds one slot, and runs in pieces.
    """

    def __init__(
        self, embeddings: Embeddings, candidates: AmgCandidateCache, executor: BoundedExecutor
    ) -> None:
        self._embeddings, self._candidates, self._executor = embeddings, candidates, executor

    async def generate(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        params: AmgParams,
        timings: Timings,
        region: Region | None = None,
    ) -> list[AmgMask]:
        """Return all masks of a stored image, or of a region as if it were an image of its own.

        Raises ImageNotFound, BadInput, TooLarge, Unavailable.
        """
        size = region.size if region else await self._embeddings.get_size(tenant, image_id, model)
        offset = params.stability_score_offset
        masks: list[AmgMask] = []
        with self._executor.slot():
            for grid in plan_grid_regions(size, params):
                image_region = to_image_region(grid.region, size, region)
                candidates = await self._candidates.get(
                    tenant,
                    image_id,
                    model,
                    grid,
                    image_region,
                    offset,
                    timings,
                    multimask=params.multimask_output,
                )
                max_bytes = MAX_MASK_BYTES - sum(mask.crop.pixels.size for mask in masks)
                masks += await self._executor.run_in_slot(
                    run_timed,
                    timings,
                    filter_candidates,
                    candidates,
                    model.manifest,
                    grid.region,
                    size,
                    params,
                    max_bytes,
                )
            return await self._executor.run_in_slot(run_timed, timings, combine_regions, masks, params)


def to_image_region(part: Region, size: Size, frame: Region | None) -> Region | None:
    """Return where a part of the frame lies on the image; None if it is the whole image.

    size: of the frame.
    frame: on the image; None if it is the whole image.
    """
    if frame is None:
        return None if part.size == size else part
    return Region(frame.x + part.x, frame.y + part.y, part.width, part.height)


def run_timed(timings: Timings, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `work(*args)`, its time counted as the stage "filter"."""
    with timings.stage("filter"):
        return work(*args, **kwargs)
