"""The filters of AMG: predicted IoU, stability score, crop edges, NMS, and removal of small regions.

Each filter decides as segment-anything's `SamAutomaticMaskGenerator`. Candidates are measured without their pixels
(`masks.upscale.measure_mask`); only the masks that pass the filters are upscaled.
"""

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
from segserve.models.manifest import NmsKeeps, PromptableManifest
from segserve.types import Crop, Region, Size


@dataclass(frozen=True)
class AmgMask:
    """One mask of the image.

    point: (x, y) of the click, in pixels of the image.
    region: the crop that the click was made on.
    """

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
    max_bytes: int,
) -> list[AmgMask]:
    """Return the masks of one region of an image of `size`: those that NMS prefers first, else by their points.

    Empty masks are removed; the original keeps them if stability_score_thresh is 0.

    max_bytes: limit for the masks' pixels, one byte each.

    Raises TooLarge.
    """
    geometry = logits_geometry(manifest, region.size)
    measures = measure_candidates(candidates, geometry, params)
    kept = select_masks(candidates, measures, region, size, params)
    boxes = np.array([measures[index].box for index in kept], np.int64).reshape(-1, 4)
    if ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum() > max_bytes:
        raise TooLarge(
            f"{len(kept)} masks pass the filters and together take too much memory.",
            field="params",
            remedy="Raise pred_iou_thresh or stability_score_thresh, or lower box_nms_thresh.",
        )
    masks = []
    for index in kept:
        candidate = candidates.items[index]
        crop = upscale_mask(candidates.logits(index, geometry.low), geometry)
        masks.append(
            AmgMask(
                Crop(crop.pixels, crop.x + region.x, crop.y + region.y, size),
                candidate.score,
                float(stability_score(measures[index])),
                (candidate.point[0] + region.x, candidate.point[1] + region.y),
                region,
            )
        )
    return masks


def measure_candidates(
    candidates: AmgCandidates, geometry: LogitsGeometry, params: AmgParams
) -> dict[int, MaskMeasure]:
    """Return the measures of the candidates that reach pred_iou_thresh, by index. A candidate is measured once."""
    offset = params.stability_score_offset
    known = candidates.measures_at(offset)
    measures = {}
    for index, candidate in enumerate(candidates.items):
        if candidate.score > params.pred_iou_thresh or params.pred_iou_thresh == 0:
            if index not in known:
                known[index] = measure_mask(candidates.logits(index, geometry.low), geometry, 0.0, offset)
            measures[index] = known[index]
    return measures


def stability_score(mask: MaskMeasure) -> np.float32:
    """Return the IoU of the masks at the raised and the lowered threshold. The first lies inside the second."""
    return np.float32(mask.inner) / np.float32(mask.outer)


def select_masks(
    candidates: AmgCandidates, measures: dict[int, MaskMeasure], region: Region, size: Size, params: AmgParams
) -> list[int]:
    """Return the indices of the masks that are stable, not cut by the crop's edge, and not duplicates (NMS)."""
    threshold = np.float32(params.stability_score_thresh)
    stable = [i for i, mask in measures.items() if mask.area and stability_score(mask) >= threshold]
    corner = np.array([region.x, region.y, region.x, region.y], np.float32)
    boxes = to_inclusive_boxes([measures[i].box for i in stable])
    uncut = ~find_boxes_near_crop_edge(boxes + corner, region, size)
    remaining = np.array(stable, np.int64)[uncut]
    kept: list[int] = remaining.tolist()
    if params.nms_keeps is NmsKeeps.ALL:
        return kept
    match params.nms_keeps:
        case NmsKeeps.BEST:
            scores = [candidates.items[i].score for i in kept]
        case NmsKeeps.SMALLEST:
            scores = [-measures[i].area for i in kept]
        case NmsKeeps.LARGEST:
            scores = [measures[i].area for i in kept]
    kept = remaining[nms(boxes[uncut], np.array(scores, np.float32), params.box_nms_thresh)].tolist()
    return kept


def remove_crop_duplicates(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Remove duplicates between regions by NMS: that of the smaller region stays, and smaller regions come first."""
    areas = np.array([mask.region.width * mask.region.height for mask in masks], np.float32)
    boxes = to_inclusive_boxes([bounding_box(mask.crop) for mask in masks])
    return [masks[i] for i in nms(boxes, np.float32(1) / areas, params.crop_nms_thresh)]


def clean_small_regions(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Fill small holes, remove small islands, and remove the duplicates that this creates by NMS.

    Unchanged masks come first, and stay where a changed mask duplicates them.
    """
    pairs = [remove_small_regions(mask.crop, params.min_mask_region_area) for mask in masks]
    boxes = to_inclusive_boxes([bounding_box(crop) for crop, _ in pairs])
    unchanged = np.array([not changed for _, changed in pairs], np.float32)
    kept = nms(boxes, unchanged, max(params.box_nms_thresh, params.crop_nms_thresh))
    return [replace(masks[i], crop=pairs[i][0]) for i in kept]


def combine_regions(masks: list[AmgMask], params: AmgParams) -> list[AmgMask]:
    """Return the masks of all regions without duplicates and small regions, in the original's order."""
    if params.crop_n_layers:
        masks = remove_crop_duplicates(masks, params)
    return clean_small_regions(masks, params) if params.min_mask_region_area else masks
