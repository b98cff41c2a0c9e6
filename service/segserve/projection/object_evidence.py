"""What a slice shows of an object: its contrast to its surroundings, and its descriptor.

A promptable model that is asked for the object in a box answers with something even where there is nothing. So whether
an object goes on is decided by the picture, and not by the model's score alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.decode.object_descriptor import measure_descriptor
from segserve.masks import crop
from segserve.types import Candidate, Crop, Float32, UInt8

# The rim that the object is compared with begins this far outside of the mask, and is so wide, as shares of the square
# root of its area: far enough for a soft edge, and near enough for a background that varies.
RIM_GAP = 0.05
RIM_WIDTH = 0.15
# Objects are measured at this size at most: contrast is a mean, which fewer pixels do not change.
MAX_MEASURED_PX = 128


@dataclass(frozen=True)
class ObjectEvidence:
    """`ObjectEvidence` describes an object on one slice.

    contrast: [3], the mean colour inside less that of the rim; zeros where the slice has no room for a rim.
    descriptor: [C], see `decode/object_descriptor.py`.
    """

    contrast: Float32
    descriptor: Float32


def measure_object(
    pixels: UInt8, embedding: NDArray[np.floating], mask: Candidate, threshold: float
) -> ObjectEvidence:
    """Return the evidence for a mask.

    pixels: the slice, RGB [H, W, 3]. embedding: [C, h, w]. threshold: of the mask's logits.
    """
    return ObjectEvidence(
        measure_contrast(pixels, mask.crop), measure_descriptor(embedding, mask.logits > threshold)
    )


def measure_contrast(pixels: UInt8, mask: Crop) -> Float32:
    """Return the mean colour [3] of a mask less that of its rim, in values of 8 bits."""
    scale = float(np.sqrt(np.count_nonzero(mask.pixels)))
    gap, width = max(1.0, RIM_GAP * scale), max(2.0, RIM_WIDTH * scale)
    margin = int(np.ceil(gap + width))
    inside, x0, y0 = crop.cut_window(mask, margin)
    y1, x1 = y0 + inside.shape[0], x0 + inside.shape[1]
    step = -(-max(inside.shape) // MAX_MEASURED_PX)
    inside, colours = inside[::step, ::step], pixels[y0:y1:step, x0:x1:step]
    distances = ndimage.distance_transform_edt(~inside) * step if inside.any() else np.zeros(inside.shape)
    rim = (distances > gap) & (distances <= gap + width)
    if not (inside.any() and rim.any()):
        return np.zeros(3, np.float32)
    contrast: Float32 = (colours[inside].mean(axis=0) - colours[rim].mean(axis=0)).astype(np.float32)
    return contrast


def keeps_contrast(first: ObjectEvidence, now: ObjectEvidence, min_contrast: float) -> bool:
    """Return whether the contrast, in the direction of the first one, is at least `min_contrast` of it.

    An object that had no contrast at first cannot lose it. A `min_contrast` of 0 accepts any, also the opposite.
    """
    squared = float(first.contrast @ first.contrast)
    return squared == 0 or min_contrast == 0 or float(first.contrast @ now.contrast) >= min_contrast * squared
