"""The mask of one slice as the prompt for the next (box, points or the mask itself), as micro-SAM (μSAM) 1.8 does it
(`micro_sam.prompt_based_segmentation.segment_from_mask`)."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.masks.geometry import bounding_box
from segserve.types import Bool, Box, Float32, Prompt

# Least distance between two points inside the mask, and between two points outside, in rows or columns. As μSAM.
INSIDE_SPACING_PX = 3
OUTSIDE_SPACING_PX = 5

# Standard deviation of the Gaussian that smooths the distances, so that ridges have single peaks. As μSAM.
SMOOTHING_PX = 1.0


class Projection(StrEnum):
    """The parts of the mask that become the prompt."""

    MASK = "mask"  # its box and the mask itself
    BOX = "box"
    POINTS = "points"  # points inside and outside of the mask
    POINTS_AND_MASK = "points_and_mask"
    SINGLE_POINT = "single_point"  # the deepest point


@dataclass(frozen=True)
class PromptParts:
    """Which parts of a prompt a projection uses."""

    box: bool
    mask: bool
    points: bool


PARTS_USED = {
    Projection.MASK: PromptParts(box=True, mask=True, points=False),
    Projection.BOX: PromptParts(box=True, mask=False, points=False),
    Projection.POINTS: PromptParts(box=False, mask=False, points=True),
    Projection.POINTS_AND_MASK: PromptParts(box=False, mask=True, points=True),
    Projection.SINGLE_POINT: PromptParts(box=False, mask=False, points=True),
}


def mask_to_prompt(mask: Bool, projection: Projection, box_extension: float = 0.0) -> Prompt:
    """Return the prompt that a mask becomes.

    mask: [H, W], not empty.
    box_extension: what the box grows by on each side: below 1 as a fraction of its edge, from 1 on in pixels.
    """
    used, box = PARTS_USED[projection], extended_box(mask, box_extension)
    points, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    if used.points:
        points, labels = choose_points(mask, box, single=projection is Projection.SINGLE_POINT)
    return Prompt(points, labels, box if used.box else None, mask=mask if used.mask else None)


def extended_box(mask: Bool, extension: float) -> Box:
    """Return the box of a mask [H, W], grown by `extension` (see `mask_to_prompt`), clipped to the image, in whole
    pixels."""
    x0, y0, x1, y1 = bounding_box(mask)
    by_x, by_y = (extension, extension) if extension >= 1 else (extension * (x1 - x0), extension * (y1 - y0))
    height, width = mask.shape
    edges = (max(x0 - by_x, 0), max(y0 - by_y, 0), min(x1 + by_x, width), min(y1 + by_y, height))
    return Box(*(float(np.round(edge)) for edge in edges))


def choose_points(mask: Bool, box: Box, *, single: bool) -> tuple[Float32, NDArray[np.int64]]:
    """Return points [N, 2] as (x, y) and labels [N]: 1 where the mask is deepest, 0 where the background in its box is.

    single: only the deepest point of the mask.

    μSAM draws no outline where the mask runs along its box; here the outline is whole. So an object that fills its box
    has a middle too.
    """
    x0, y0, x1, y1 = (int(edge) for edge in (box.x0, box.y0, box.x1, box.y1))
    inside = np.pad(mask[y0:y1, x0:x1], 1)
    outline = ndimage.binary_dilation(inside, ndimage.generate_binary_structure(2, 1)) & ~inside
    distances = ndimage.gaussian_filter(ndimage.distance_transform_edt(~outline), SMOOTHING_PX)
    depth = np.where(inside, distances, 0)
    if single:
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        positions, labels = [(int(row), int(column))], [1]
    else:
        positive = find_peaks(depth, INSIDE_SPACING_PX)
        outside = np.where(inside, 0, distances)
        outside[[0, -1]] = outside[:, [0, -1]] = 0  # the padding lies outside the box
        negative = find_peaks(outside, OUTSIDE_SPACING_PX)
        positions, labels = [*positive, *negative], [1] * len(positive) + [0] * len(negative)
    points = np.array([(x + x0 - 1, y + y0 - 1) for y, x in positions], np.float32).reshape(-1, 2)
    return points, np.array(labels, np.int64)


def find_peaks(values: NDArray[np.float64], min_distance: int) -> list[tuple[int, int]]:
    """Return (row, column) of the local maxima of `values` [H, W], the highest first.

    Maxima that equal the minimum of the whole map are left out. Any two of the others are further apart than
    `min_distance`, in rows or in columns.
    """
    highest = ndimage.maximum_filter(values, size=2 * min_distance + 1, mode="constant")
    rows, columns = np.nonzero((values == highest) & (values > values.min()))
    order = np.argsort(-values[rows, columns], kind="stable")
    peaks: list[tuple[int, int]] = []
    for row, column in zip(rows[order], columns[order], strict=True):
        if all(max(abs(row - r), abs(column - c)) > min_distance for r, c in peaks):
            peaks.append((int(row), int(column)))
    return peaks
