"""AIS, automatic instance segmentation of Segment Anything for Microscopy: a seeded watershed on the decoder's maps.

Archit et al., Nature Methods 2025; micro-sam 1.8, `InstanceSegmentationWithDecoder`.

The decoder's maps [3, H, W], 0 to 1, are: the foreground; the distance to the object's centre; the inverted distance
to the object's boundary. Both distances are near 0 deep inside an object and 1 outside. So the pixels below both
thresholds are the core of an object, its seed. The watershed floods the boundary distance from the seeds, within the
foreground.
"""

import bioimage_cpp as bic
import numpy as np
from numpy.typing import NDArray

from segserve.automatic.parameters import AisParams
from segserve.masks.label_map import Labels
from segserve.masks.upscale import LogitsGeometry, upscale_logits
from segserve.models.manifest import PromptableManifest
from segserve.types import Float32, Size

# The channels of the maps.
FOREGROUND = 0
CENTER = 1
BOUNDARY = 2


def resize_maps(maps: Float32, manifest: PromptableManifest, size: Size) -> Float32:
    """Resize the decoder's maps [3, h, h] to the image, [3, H, W].

    The maps are first resized to the model's input, as logits are (torch_em's `UNETR.postprocess_masks`).
    """
    side = maps.shape[-1]
    geometry = LogitsGeometry.stretched(size, side)
    if manifest.preprocess.resize == "pad":
        geometry = LogitsGeometry.padded(size, manifest.preprocess.input_size, side)
    return np.stack([upscale_logits(channel, geometry) for channel in maps])


def segment_by_watershed(maps: Float32, params: AisParams) -> Labels:
    """Return the label map [H, W] uint32 of maps [3, H, W] of the image's size; ids are 1 to n.

    The steps and the library are micro-sam's, so the labels are equal to micro-sam's.
    """
    foreground = smooth_map(maps[FOREGROUND], params.foreground_smoothing) > params.foreground_threshold
    center = smooth_map(maps[CENTER], params.distance_smoothing)
    boundary = smooth_map(maps[BOUNDARY], params.distance_smoothing)
    cores = (center < params.center_distance_threshold) & (boundary < params.boundary_distance_threshold)
    seeds = bic.segmentation.label(cores & foreground).astype(np.uint32)
    labels = bic.segmentation.watershed(boundary, markers=seeds, mask=foreground)
    return remove_small_objects(labels, params.min_size)


def smooth_map(values: Float32, sigma: float) -> Float32:
    """Smooth a map [H, W] by a Gaussian; a sigma of 0 changes nothing."""
    smoothed: Float32 = bic.filters.gaussian_smoothing(values, sigma) if sigma > 0 else values
    return smoothed


def remove_small_objects(labels: NDArray[np.uint32], min_size: int) -> Labels:
    """Remove objects of fewer than `min_size` pixels, and renumber the others in the same order without gaps."""
    if min_size <= 1:
        return labels
    is_kept = np.bincount(labels.ravel()) >= min_size
    is_kept[0] = False
    return np.where(is_kept, np.cumsum(is_kept), 0).astype(np.uint32)[labels]
