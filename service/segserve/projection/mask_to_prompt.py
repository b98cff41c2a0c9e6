"""The mask of one slice as the prompt for the next, as μSAM 1.8 does it
(`micro_sam.prompt_based_segmentation.segment_from_mask`)."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.masks.geometry import bounding_box
from segserve.types import Bool, Box, Float32, Prompt

INSIDE_SPACING_PX, OUTSIDE_SPACING_PX = 3, 5  # pixels between points of a kind
SMOOTHING_PX = 1.0  # of the distances, pixels


class Projection(StrEnum):
    """What of the mask becomes the prompt."""

    MASK = "mask"  # its box and itself
    BOX = "box"
    POINTS = "points"  # inside and outside of it
    POINTS_AND_MASK = "points_and_mask"
    SINGLE_POINT = "single_point"  # the deepest


@dataclass(frozen=True)
class PromptParts:
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


def mask_to_prompt(mask: Bool, how: Projection, box_extension: float = 0.0) -> Prompt:
    """mask [H, W], not empty. box_extension: what the box grows by on each side, in parts of its edges, or in pixels
    from 1 on."""
    uses, box = PARTS_USED[how], extended_box(mask, box_extension)
    points, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    if uses.points:
        points, labels = choose_points(mask, box, single=how is Projection.SINGLE_POINT)
    return Prompt(points, labels, box if uses.box else None, mask=mask if uses.mask else None)


def extended_box(mask: Bool, extension: float) -> Box:
    x0, y0, x1, y1 = bounding_box(mask)
    by_x, by_y = (extension, extension) if extension >= 1 else (extension * (x1 - x0), extension * (y1 - y0))
    height, width = mask.shape
    edges = (max(x0 - by_x, 0), max(y0 - by_y, 0), min(x1 + by_x, width), min(y1 + by_y, height))
    return Box(*(float(np.round(edge)) for edge in edges))


def choose_points(mask: Bool, box: Box, *, single: bool) -> tuple[Float32, NDArray[np.int64]]:
    """Points [N, 2] and labels [N]: where the mask, and what is around it in its box, is deepest. Unlike μSAM's, the
    outline is whole where it runs along the box: an object that fills its box has a middle too."""
    x0, y0, x1, y1 = (int(edge) for edge in (box.x0, box.y0, box.x1, box.y1))
    inside = np.pad(mask[y0:y1, x0:x1], 1)
    outline = ndimage.binary_dilation(inside, ndimage.generate_binary_structure(2, 1)) & ~inside
    distances = ndimage.gaussian_filter(ndimage.distance_transform_edt(~outline), SMOOTHING_PX)
    depth = np.where(inside, distances, 0)
    if single:
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        found, labels = [(int(row), int(column))], [1]
    else:
        positive = find_peaks(depth, INSIDE_SPACING_PX)
        outside = np.where(inside, 0, distances)
        outside[[0, -1]] = outside[:, [0, -1]] = 0  # beside the box
        negative = find_peaks(outside, OUTSIDE_SPACING_PX)
        found, labels = [*positive, *negative], [1] * len(positive) + [0] * len(negative)
    points = np.array([(x + x0 - 1, y + y0 - 1) for y, x in found], np.float32).reshape(-1, 2)
    return points, np.array(labels, np.int64)


def find_peaks(values: NDArray[np.float64], apart: int) -> list[tuple[int, int]]:
    """(row, column) of the maxima above the least value, the highest first, no two nearer than `apart` in rows or
    columns."""
    highest = ndimage.maximum_filter(values, size=2 * apart + 1, mode="constant")
    rows, columns = np.nonzero((values == highest) & (values > values.min()))
    order = np.argsort(-values[rows, columns], kind="stable")
    found: list[tuple[int, int]] = []
    for row, column in zip(rows[order], columns[order], strict=True):
        if all(max(abs(row - r), abs(column - c)) > apart for r, c in found):
            found.append((int(row), int(column)))
    return found
