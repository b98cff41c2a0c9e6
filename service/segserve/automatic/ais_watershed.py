"""Automatic instance segmentation (AIS) of Segment Anything for Microscopy: a seeded watershed on what its
decoder predicts (Archit et al., Nature Methods 2025; micro-sam 1.8, `InstanceSegmentationWithDecoder`).

The decoder's maps [3, H, W], 0 to 1: foreground; distance to the object's centre; distance to its boundary,
inverted. Both distances are near 0 deep inside an object and 1 outside, so what lies below both thresholds is
the object's core, its seed. The seeds flood the boundary distance within the foreground.
"""

import bioimage_cpp as bic
import numpy as np
from numpy.typing import NDArray

from segserve.automatic.parameters import AisParams
from segserve.masks.label_map import Labels
from segserve.masks.upscale import LogitsGeometry, upscale_logits
from segserve.models.manifest import PromptableManifest
from segserve.types import Float32, Size

FOREGROUND, CENTER, BOUNDARY = range(3)


def resize_maps(maps: Float32, manifest: PromptableManifest, size: Size) -> Float32:
    """The decoder's maps [3, h, h] over the image, [3, H, W]: as logits are, by way of the model's input
    (torch_em's `UNETR.postprocess_masks`)."""
    edge = maps.shape[-1]
    where = LogitsGeometry.stretched(size, edge)
    if manifest.preprocess.resize == "pad":
        where = LogitsGeometry.padded(size, manifest.preprocess.input_size, edge)
    return np.stack([upscale_logits(each, where) for each in maps])


def segment_by_watershed(maps: Float32, params: AisParams) -> Labels:
    """Maps [3, H, W] of the image's size -> label map [H, W] uint32, ids 1 to n.

    The same steps in the same order as micro-sam, by the same library: label for label its result.
    """
    foreground = smooth_map(maps[FOREGROUND], params.foreground_smoothing) > params.foreground_threshold
    center = smooth_map(maps[CENTER], params.distance_smoothing)
    boundary = smooth_map(maps[BOUNDARY], params.distance_smoothing)
    cores = (center < params.center_distance_threshold) & (boundary < params.boundary_distance_threshold)
    seeds = bic.segmentation.label(cores & foreground).astype(np.uint32)
    return remove_small_objects(
        bic.segmentation.watershed(boundary, markers=seeds, mask=foreground), params.min_size
    )


def smooth_map(values: Float32, sigma: float) -> Float32:
    """[H, W]; a sigma of 0 changes nothing."""
    smoothed: Float32 = bic.filters.gaussian_smoothing(values, sigma) if sigma > 0 else values
    return smoothed


def remove_small_objects(labels: NDArray[np.uint32], min_size: int) -> Labels:
    """The objects of at least `min_size` pixels, numbered anew in the same order. ids come without gaps."""
    if min_size <= 1:
        return labels
    kept = np.bincount(labels.ravel()) >= min_size
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.uint32)[labels]
