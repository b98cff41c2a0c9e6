"""The parameters of AIS and AMG: a request's, over those of the model's manifest, over the defaults."""

from dataclasses import dataclass, replace

from segserve.models.manifest import AisEntry, AmgEntry, PromptableManifest


@dataclass(frozen=True)
class AisParams:
    """Names and defaults of micro-sam's `InstanceSegmentationWithDecoder.generate`.

    center_distance_threshold, boundary_distance_threshold: seeds are where both smoothed distances are below.
    foreground_threshold: objects are where the smoothed foreground is above. foreground_smoothing,
    distance_smoothing: sigmas of Gaussians in pixels of the image, 0 for none. min_size: in pixels of the
    image; smaller objects are left out.
    """

    center_distance_threshold: float = 0.5
    boundary_distance_threshold: float = 0.5
    foreground_threshold: float = 0.5
    foreground_smoothing: float = 1.0
    distance_smoothing: float = 1.6
    min_size: int = 0


@dataclass(frozen=True)
class AmgParams:
    """Names and defaults of `SamAutomaticMaskGenerator`; `points_per_batch` is not among them, since it does not
    change what is found.

    points_per_side: of the grid. pred_iou_thresh, stability_score_thresh: masks must reach them. A mask's
    stability is the IoU of what lies above its threshold raised by stability_score_offset and above it lowered
    by as much, in logits. box_nms_thresh, crop_nms_thresh: of two masks whose boxes' IoU exceeds it, one stays:
    of the same crop that with the higher predicted IoU, of different crops that of the smaller crop.
    crop_n_layers: layers of crops besides the image itself. crop_overlap_ratio: how far the first layer's crops
    overlap, as a share of the image's shorter side. crop_n_points_downscale_factor: layer i's grid has
    points_per_side / factor^i points a side. min_mask_region_area: pixels; smaller holes and islands go.
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

    def layer_points_per_side(self, layer: int) -> int:
        """A side of the layer's grid."""
        return int(self.points_per_side / self.crop_n_points_downscale_factor**layer)


def resolve_amg_params(manifest: PromptableManifest, given: AmgEntry) -> AmgParams:
    """What was given, then what the model's manifest says, then the defaults."""
    of_model = manifest.amg.explicit_params() if manifest.amg else {}
    return replace(AmgParams(), **{**of_model, **given.explicit_params()})


def resolve_ais_params(manifest: PromptableManifest, given: AisEntry) -> AisParams:
    """What was given, then what the model's manifest says, then the defaults."""
    of_model = manifest.ais.explicit_params() if manifest.ais else {}
    return replace(AisParams(), **{**of_model, **given.explicit_params()})
