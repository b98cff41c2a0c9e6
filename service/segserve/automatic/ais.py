"""Automatic instance segmentation (AIS) of Segment Anything for Microscopy: a seeded watershed on what its
decoder predicts (Archit et al., Nature Methods 2025; micro-sam 1.8, `InstanceSegmentationWithDecoder`).

The decoder's maps [3, H, W], 0 to 1: foreground; distance to the object's centre; distance to its boundary,
inverted. Both distances are near 0 deep inside an object and 1 outside, so what lies below both thresholds is
the object's core, its seed. The seeds flood the boundary distance within the foreground.
"""

from dataclasses import dataclass

import bioimage_cpp as bic
import numpy as np
from numpy.typing import NDArray

from segserve.masks.label_map import Labels
from segserve.masks.upscale import Geometry, upscale_logits
from segserve.models.bundle import PromptableManifest
from segserve.types import Float32, Size

FOREGROUND, CENTER, BOUNDARY = range(3)


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


def to_image(maps: Float32, manifest: PromptableManifest, size: Size) -> Float32:
    """The decoder's maps [3, h, h] over the image, [3, H, W]: as logits are, by way of the model's input
    (torch_em's `UNETR.postprocess_masks`)."""
    edge = maps.shape[-1]
    where = Geometry.stretched(size, edge)
    if manifest.preprocess.resize == "pad":
        where = Geometry.padded(size, manifest.preprocess.input_size, edge)
    return np.stack([upscale_logits(each, where) for each in maps])


def segment(maps: Float32, params: AisParams) -> Labels:
    """Maps [3, H, W] of the image's size -> label map [H, W] uint32, ids 1 to n.

    The same steps in the same order as micro-sam, by the same library: label for label its result.
    """
    foreground = smooth(maps[FOREGROUND], params.foreground_smoothing) > params.foreground_threshold
    center = smooth(maps[CENTER], params.distance_smoothing)
    boundary = smooth(maps[BOUNDARY], params.distance_smoothing)
    cores = (center < params.center_distance_threshold) & (boundary < params.boundary_distance_threshold)
    seeds = bic.segmentation.label(cores & foreground).astype(np.uint32)
    return without_small(
        bic.segmentation.watershed(boundary, markers=seeds, mask=foreground), params.min_size
    )


def smooth(values: Float32, sigma: float) -> Float32:
    """[H, W]; a sigma of 0 changes nothing."""
    smoothed: Float32 = bic.filters.gaussian_smoothing(values, sigma) if sigma > 0 else values
    return smoothed


def without_small(labels: NDArray[np.uint32], min_size: int) -> Labels:
    """The objects of at least `min_size` pixels, numbered anew in the same order. ids come without gaps."""
    if min_size <= 1:
        return labels
    kept = np.bincount(labels.ravel()) >= min_size
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.uint32)[labels]
