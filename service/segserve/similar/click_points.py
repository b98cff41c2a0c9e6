"""Click points: where on an image an object like the examples is likely to be.

The likeness of the embedding's cells is smoothed at the size of the object, so that a cell inside counts more than one
at the edge, and its local maxima are the points to click.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.masks.upscale import LogitsGeometry
from segserve.types import Bool, Float32

# The standard deviation of the smoothing, as a share of the object's diameter.
SMOOTHING = 0.2
# Of two maxima nearer than this share of the object's diameter, only the higher one is clicked.
MIN_DISTANCE = 0.25
# Points of one search of a region. Each is a run of the decoder.
MAX_POINTS = 1024


def measure_pixel(geometry: LogitsGeometry) -> NDArray[np.float64]:
    """Return the width and height of a low-res pixel, in pixels of the image."""
    valid = np.array([geometry.valid.width, geometry.valid.height]) * geometry.low / geometry.square
    return np.array([geometry.original.width, geometry.original.height]) / valid


def smooth_response(cell_scores: Float32, cell: int, shape: tuple[int, int], diameter: float) -> Float32:
    """Return the likeness at each low-res pixel, smoothed at the size of the object.

    cell_scores: [rows, columns], of the embedding's cells. cell: low-res pixels along a cell's side.
    shape: of the answer. diameter: of the object, in low-res pixels.
    """
    response = ndimage.zoom(cell_scores, cell, order=1, mode="nearest", grid_mode=True)[
        : shape[0], : shape[1]
    ]
    smoothed: Float32 = ndimage.gaussian_filter(response, SMOOTHING * diameter, mode="nearest")
    return smoothed


def find_points(
    response: Float32, taken: Bool, diameter: float, min_response: float, max_points: int
) -> NDArray[np.int64]:
    """Return the local maxima [N, 2] (x, y) of a response, highest first, at most `max_points`.

    response: [h, w]. taken: [h, w], where no point is wanted. diameter: of the object, in pixels of both.
    """
    free = np.where(taken, -np.inf, response)
    side = 2 * max(1, round(MIN_DISTANCE * diameter)) + 1
    is_maximum = (free == ndimage.maximum_filter(free, side, mode="nearest")) & (free >= min_response)
    y, x = np.nonzero(is_maximum)
    order = np.argsort(-free[y, x], kind="stable")[:max_points]
    return np.stack([x[order], y[order]], axis=1).astype(np.int64)
