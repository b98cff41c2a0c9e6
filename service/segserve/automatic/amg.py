"""Automatic mask generation (AMG): a grid of clicks, and of all their masks those worth keeping (Kirillov et al.,
"Segment Anything", 2023, section 5; segment-anything 1.0, `SamAutomaticMaskGenerator`).

    grid -> decoder -> candidates | predicted IoU -> stability -> crop's edges -> NMS | NMS of crops -> small regions

What is left of the first bar is kept, see `automatic.amg_candidates`; what is right of it is done anew for every
request. Pixels are computed of those masks alone that come through; the others are measured (`masks.upscale`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import numpy as np

from segserve.automatic.amg_candidates import Candidates, Grids
from segserve.automatic.nms import near_crop_edge, non_maximum, reference_boxes, without_small_regions
from segserve.automatic.point_grids import AmgParams, parts
from segserve.bounded_executor import BoundedExecutor
from segserve.decode.prompt_encoding import logits_geometry
from segserve.encode.embeddings import Embeddings
from segserve.errors import TooLarge
from segserve.masks.crop import bounding_box
from segserve.masks.upscale import Extent, Geometry, measure, upscale
from segserve.models.bundle import PromptableManifest
from segserve.models.promptable_model import Model
from segserve.timing import Timings
from segserve.types import Crop, Region, Size

MOST_MASK_BYTES = 1 << 30  # of all masks of an answer, a byte each pixel of their boxes

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class AmgMask:
    """One mask of the image. point: (x, y), the click in pixels of the image. region: the crop it was found on."""

    crop: Crop
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    region: Region


def masks_of(
    candidates: Candidates,
    manifest: PromptableManifest,
    region: Region,
    size: Size,
    params: AmgParams,
    room: int,
) -> list[AmgMask]:
    """The masks found on one region of an image of `size`, by falling predicted IoU. Empty masks are left out,
    where the original keeps them for a stability_score_thresh of 0. room: bytes for their pixels; raises TooLarge.
    """
    where = logits_geometry(manifest, region.size)
    extents = measured(candidates, where, params)
    kept = chosen(candidates, extents, region, size, params)
    boxes = np.array([extents[index].box for index in kept], np.int64).reshape(-1, 4)
    if ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum() > room:
        raise TooLarge(
            f"{len(kept)} masks are left, too many for their size.",
            field="params",
            remedy="Raise pred_iou_thresh or stability_score_thresh, or lower box_nms_thresh.",
        )
    found = []
    for index in kept:
        (x, y), logits = candidates.found[index].point, candidates.logits(index, where.low)
        crop = upscale(logits, where)
        found.append(
            AmgMask(
                Crop(crop.pixels, crop.x + region.x, crop.y + region.y, size),
                candidates.found[index].score,
                float(stability(extents[index])),
                (x + region.x, y + region.y),
                region,
            )
        )
    return found


def measured(candidates: Candidates, where: Geometry, params: AmgParams) -> dict[int, Extent]:
    """The extents of the candidates of enough predicted IoU, by their positions; each is measured once."""
    offset = params.stability_score_offset
    known = candidates.extents_at(offset)
    found = {}
    for index, candidate in enumerate(candidates.found):
        if candidate.score > params.pred_iou_thresh or params.pred_iou_thresh == 0:
            if index not in known:
                known[index] = measure(candidates.logits(index, where.low), where, 0.0, offset)
            found[index] = known[index]
    return found


def stability(extent: Extent) -> np.float32:
    """The IoU of the masks at the threshold raised and lowered: one lies in the other."""
    return np.float32(extent.inner) / np.float32(extent.outer)


def chosen(
    candidates: Candidates, extents: dict[int, Extent], region: Region, size: Size, params: AmgParams
) -> list[int]:
    """Positions of the masks that are stable, not cut by the crop's edge, and not another one's duplicate."""
    least = np.float32(params.stability_score_thresh)
    stable = [i for i, extent in extents.items() if extent.area and stability(extent) >= least]
    corner = np.array([region.x, region.y, region.x, region.y], np.float32)
    boxes = reference_boxes([extents[i].box for i in stable])
    inside = ~near_crop_edge(boxes + corner, region, size)
    left = np.array(stable, np.int64)[inside]
    scores = np.array([candidates.found[i].score for i in left.tolist()], np.float32)
    kept: list[int] = left[non_maximum(boxes[inside], scores, params.box_nms_thresh)].tolist()
    return kept


def without_duplicates(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Masks of several regions, those of the smallest first; of duplicates the one of the smaller region."""
    areas = np.array([each.region.width * each.region.height for each in masks], np.float32)
    boxes = reference_boxes([bounding_box(each.crop) for each in masks])
    return [masks[i] for i in non_maximum(boxes, np.float32(1) / areas, params.crop_nms_thresh)]


def cleaned(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Without small holes and islands, and without the duplicates that this makes: masks that needed no cleaning
    come first and stay."""
    pairs = [without_small_regions(each.crop, params.min_mask_region_area) for each in masks]
    boxes = reference_boxes([bounding_box(crop) for crop, _ in pairs])
    untouched = np.array([not changed for _, changed in pairs], np.float32)
    kept = non_maximum(boxes, untouched, max(params.box_nms_thresh, params.crop_nms_thresh))
    return [replace(masks[i], crop=pairs[i][0]) for i in kept]


def combined(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Of what was found on all regions, what stays; in the original's order."""
    if params.crop_n_layers:
        masks = without_duplicates(masks, params)
    return cleaned(masks, params) if params.min_mask_region_area else masks


class Amg:
    """turns: where the work on whole images is done; everything below it runs in their threads, in pieces."""

    def __init__(self, embeddings: Embeddings, grids: Grids, turns: BoundedExecutor) -> None:
        self._embeddings, self._grids, self._turns = embeddings, grids, turns

    async def find(
        self,
        tenant: str,
        image_id: str,
        model: Model,
        params: AmgParams,
        timings: Timings,
        region: Region | None = None,
    ) -> list[AmgMask]:
        """All masks of a stored image, or of a region as if it were an image of its own. Raises ImageNotFound,
        BadInput, TooLarge, Unavailable."""
        size = region.size if region else await self._embeddings.size(tenant, image_id, model)
        looked_at = parts(size, params)
        found: list[AmgMask] = []
        with self._turns.place():
            for part in looked_at:
                at, offset = of_image(part.region, size, region), params.stability_score_offset
                candidates = await self._grids.get(tenant, image_id, model, part, at, offset, timings)
                room = MOST_MASK_BYTES - sum(each.crop.pixels.size for each in found)
                found += await self._turns.piece(
                    timed, timings, masks_of, candidates, model.manifest, part.region, size, params, room
                )
            return await self._turns.piece(timed, timings, combined, found, params)


def of_image(part: Region, size: Size, frame: Region | None) -> Region | None:
    """Where a part of the frame [size] lies on the image; None for all of it."""
    if frame is None:
        return None if part.size == size else part
    return Region(frame.x + part.x, frame.y + part.y, part.width, part.height)


def timed(timings: Timings, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with timings.stage("filter"):
        return work(*args, **kwargs)
