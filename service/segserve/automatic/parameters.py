"""The parameters of AIS and AMG with their defaults.

A request's parameters override those of the model's manifest, and these override the defaults. `merge_slices.py` holds
the parameters for volumes.
"""

from dataclasses import dataclass, replace

from segserve.models.manifest import AisEntry, AmgEntry, NmsKeeps, PromptableManifest


@dataclass(frozen=True)
class AisParams:
    """Names and defaults of micro-sam's `InstanceSegmentationWithDecoder.generate`.

    center_distance_threshold, boundary_distance_threshold: seeds are where both smoothed distances are below them.
    foreground_threshold: objects are where the smoothed foreground is above it.
    foreground_smoothing, distance_smoothing: sigmas of Gaussians in pixels of the image; 0 smooths nothing.
    min_size: in pixels of the image; smaller objects are removed.
    """

    center_distance_threshold: float = 0.5
    boundary_distance_threshold: float = 0.5
    foreground_threshold: float = 0.5
    foreground_smoothing: float = 1.0
    distance_smoothing: float = 1.6
    min_size: int = 0


@dataclass(frozen=True)
class AmgParams:
    """Names and defaults of segment-anything's `SamAutomaticMaskGenerator`.

    `points_per_batch` is missing, because it does not change the result. `multimask_output` is that of SAM 2's
    generator, `nms_keeps` is our own: samapi, the server of QuPath's extension, has both as its `output_type`.

    points_per_side: points of the grid along each side.
    pred_iou_thresh: minimum predicted IoU of a mask.
    stability_score_thresh: minimum stability score of a mask. The score is the IoU of two masks: the mask with its
        threshold raised by stability_score_offset, and with its threshold lowered by the same, in logits.
    box_nms_thresh: of two masks of one crop whose boxes' IoU exceeds it, the one that `nms_keeps` says stays.
    crop_n_layers: layers of crops besides the image itself.
    crop_nms_thresh: of two masks of different crops whose boxes' IoU exceeds it, that of the smaller crop stays.
    crop_overlap_ratio: overlap of the first layer's crops, as a share of the image's shorter side.
    crop_n_points_downscale_factor: layer i's grid has points_per_side / factor^i points a side.
    min_mask_region_area: in pixels; smaller holes are filled and smaller islands removed.
    multimask_output: take the three candidates of each click, otherwise its single mask.
    nms_keeps: the mask with the higher predicted IoU, the smallest, the largest, or all: no NMS within a crop.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    multimask_output: bool = True
    nms_keeps: NmsKeeps = NmsKeeps.BEST

    def layer_points_per_side(self, layer: int) -> int:
        """Return the points along each side of the grid of a crop layer; layer 0 is the image itself."""
        return int(self.points_per_side / self.crop_n_points_downscale_factor**layer)


def resolve_ais_params(manifest: PromptableManifest, request: AisEntry) -> AisParams:
    """Return the request's parameters, completed by the manifest's, then by the defaults."""
    of_model = manifest.ais.explicit_params() if manifest.ais else {}
    return replace(AisParams(), **{**of_model, **request.explicit_params()})


def resolve_amg_params(manifest: PromptableManifest, request: AmgEntry) -> AmgParams:
    """Return the request's parameters, completed by the manifest's, then by the defaults."""
    of_model = manifest.amg.explicit_params() if manifest.amg else {}
    return replace(AmgParams(), **{**of_model, **request.explicit_params()})
