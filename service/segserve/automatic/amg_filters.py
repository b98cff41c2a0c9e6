"""The filters of automatic mask generation: predicted IoU, stability score, crop edges, NMS, small regions."""

from dataclasses import dataclass, replace

import numpy as np

from segserve.automatic.amg_candidates import AmgCandidates
from segserve.automatic.image_crops import find_boxes_near_crop_edge, to_inclusive_boxes
from segserve.automatic.parameters import AmgParams
from segserve.automatic.small_regions import remove_small_regions
from segserve.decode.prompt_encoding import logits_geometry
from segserve.errors import TooLarge
from segserve.masks.crop import bounding_box
from segserve.masks.nms import nms
from segserve.masks.upscale import LogitsGeometry, MaskMeasure, measure_mask, upscale_mask
from segserve.models.manifest import PromptableManifest
from segserve.types import Crop, Region, Size


@dataclass(frozen=True)
class AmgMask:
    """One mask of the image. point: (x, y), the click in pixels of the image. region: the crop it was found on."""

    crop: Crop
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    region: Region


def filter_candidates(
    candidates: AmgCandidates,
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
    extents = measure_candidates(candidates, where, params)
    kept = select_masks(candidates, extents, region, size, params)
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
        crop = upscale_mask(logits, where)
        found.append(
            AmgMask(
                Crop(crop.pixels, crop.x + region.x, crop.y + region.y, size),
                candidates.found[index].score,
                float(stability_score(extents[index])),
                (x + region.x, y + region.y),
                region,
            )
        )
    return found


def measure_candidates(
    candidates: AmgCandidates, where: LogitsGeometry, params: AmgParams
) -> dict[int, MaskMeasure]:
    """The extents of the candidates of enough predicted IoU, by their positions; each is measured once."""
    offset = params.stability_score_offset
    known = candidates.extents_at(offset)
    found = {}
    for index, candidate in enumerate(candidates.found):
        if candidate.score > params.pred_iou_thresh or params.pred_iou_thresh == 0:
            if index not in known:
                known[index] = measure_mask(candidates.logits(index, where.low), where, 0.0, offset)
            found[index] = known[index]
    return found


def stability_score(extent: MaskMeasure) -> np.float32:
    """The IoU of the masks at the threshold raised and lowered: one lies in the other."""
    return np.float32(extent.inner) / np.float32(extent.outer)


def select_masks(
    candidates: AmgCandidates, extents: dict[int, MaskMeasure], region: Region, size: Size, params: AmgParams
) -> list[int]:
    """Positions of the masks that are stable, not cut by the crop's edge, and not another one's duplicate."""
    least = np.float32(params.stability_score_thresh)
    stable = [i for i, extent in extents.items() if extent.area and stability_score(extent) >= least]
    corner = np.array([region.x, region.y, region.x, region.y], np.float32)
    boxes = to_inclusive_boxes([extents[i].box for i in stable])
    inside = ~find_boxes_near_crop_edge(boxes + corner, region, size)
    left = np.array(stable, np.int64)[inside]
    scores = np.array([candidates.found[i].score for i in left.tolist()], np.float32)
    kept: list[int] = left[nms(boxes[inside], scores, params.box_nms_thresh)].tolist()
    return kept


def remove_crop_duplicates(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Masks of several regions, those of the smallest first; of duplicates the one of the smaller region."""
    areas = np.array([each.region.width * each.region.height for each in masks], np.float32)
    boxes = to_inclusive_boxes([bounding_box(each.crop) for each in masks])
    return [masks[i] for i in nms(boxes, np.float32(1) / areas, params.crop_nms_thresh)]


def clean_small_regions(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Without small holes and islands, and without the duplicates that this makes: masks that needed no cleaning
    come first and stay."""
    pairs = [remove_small_regions(each.crop, params.min_mask_region_area) for each in masks]
    boxes = to_inclusive_boxes([bounding_box(crop) for crop, _ in pairs])
    untouched = np.array([not changed for _, changed in pairs], np.float32)
    kept = nms(boxes, untouched, max(params.box_nms_thresh, params.crop_nms_thresh))
    return [replace(masks[i], crop=pairs[i][0]) for i in kept]


def combine_regions(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Of what was found on all regions, what stays; in the original's order."""
    if params.crop_n_layers:
        masks = remove_crop_duplicates(masks, params)
    return clean_small_regions(masks, params) if params.min_mask_region_area else masks
