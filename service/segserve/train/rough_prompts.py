"""Prompts of people in a hurry, made from a ground-truth mask: rough boxes, many clicks, masks that are about right.

All masks are arrays [H, W] bool of a window. Coordinates are (x, y) in pixels of that array.
"""

import cv2
import numpy as np

from segserve.masks.geometry import bounding_box
from segserve.masks.simulated_prompts import BACKGROUND_MARGIN_PX, Click, random_pixel
from segserve.types import Bool, Float32

MAX_TIGHTNESS = 0.2  # of a rough box: how much of the object's width or height a side cuts off
MAX_LOOSENESS = 0.5  # how much of it a side leaves over
NEAR_SHARE = 0.5  # negative clicks lie in the object's box grown by so much of its edges
CLUSTER_SHARE = 0.15  # standard deviation of clustered clicks, over the root of the object's area
MAX_PRIOR_CHANGE = 0.15  # pixels by which a prior's outline is wrong, over the root of the object's area


def rough_box(box: tuple[int, int, int, int], limit: int, rng: np.random.Generator) -> Float32:
    """Return the box [4] (x0, y0, x1, y1) clearly too tight or too loose, by another amount at each side.

    limit: the edge of the square array, in pixels; the result stays in it.
    """
    most = -MAX_TIGHTNESS if rng.random() < 0.5 else MAX_LOOSENESS
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    moved = np.array(box) + np.array([-1, -1, 1, 1]) * most * rng.uniform(0, 1, 4) * sides
    rough: Float32 = np.clip(moved, 0, limit).astype(np.float32)
    return rough


def click_many(
    truth: Bool, labels: Bool, rng: np.random.Generator, *, clustered: bool, wrong_share: float
) -> list[Click]:
    """Return a click for each of `labels` [N]: on the object where true, on background near it where not.

    clustered: positive clicks lie around one pixel, not all over the object.
    wrong_share: so many clicks say the opposite of what is there.
    The truth is not empty. Where no background is near, all clicks are positive.
    """
    inside = np.argwhere(truth)
    outside = np.argwhere(find_surroundings(truth))
    wanted = labels if len(outside) else np.ones_like(labels)
    positives = inside[rng.integers(len(inside), size=len(wanted))]
    if clustered:
        centre, spread = positives[0], CLUSTER_SHARE * np.sqrt(len(inside))
        moved = np.rint(centre + rng.normal(0, spread, positives.shape)).astype(int)
        moved = np.clip(moved, 0, np.array(truth.shape) - 1)
        positives = np.where(truth[tuple(moved.T)][:, None], moved, positives)
    pixels = positives
    if len(outside):
        pixels = np.where(wanted[:, None], positives, outside[rng.integers(len(outside), size=len(wanted))])
    told = wanted ^ (rng.random(len(wanted)) < wrong_share)
    return [(int(x), int(y), int(label)) for (y, x), label in zip(pixels, told, strict=True)]


def find_surroundings(truth: Bool) -> Bool:
    """Return the pixels [H, W] outside the object that lie in its bounding box grown by `NEAR_SHARE`."""
    x0, y0, x1, y1 = bounding_box(truth)
    across, down = (max(BACKGROUND_MARGIN_PX, round(NEAR_SHARE * side)) for side in (x1 - x0, y1 - y0))
    near = np.zeros_like(truth)
    near[max(y0 - down, 0) : y1 + down, max(x0 - across, 0) : x1 + across] = True
    return near & ~truth


def draw_prior_mask(truth: Bool, neighbour: Bool | None, rng: np.random.Generator) -> Bool:
    """Return a mask [H, W] such as an earlier prompt gives: about the object, or the object with its neighbour.

    It is the truth grown, shrunk or moved a little, or cut by a line. The truth is not empty; the result may be.
    """
    kind = rng.choice(["grown", "shrunk", "moved", "cut", "joined"])
    if kind == "joined" and neighbour is not None:
        return truth | neighbour
    most = MAX_PRIOR_CHANGE * float(np.sqrt(truth.sum()))
    if kind == "moved":
        rows, columns = (round(each) for each in rng.uniform(-2 * most, 2 * most, 2))
        matrix = np.array([[1, 0, columns], [0, 1, rows]], np.float32)
        return cv2.warpAffine(truth.astype(np.uint8), matrix, truth.shape[::-1]).astype(np.bool_)
    if kind == "cut":
        return truth & half_plane(truth, rng)
    edge = 2 * max(1, round(rng.uniform(0, most))) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))
    change = cv2.erode if kind == "shrunk" else cv2.dilate
    return change(truth.astype(np.uint8), kernel).astype(np.bool_)


def half_plane(truth: Bool, rng: np.random.Generator) -> Bool:
    """Return the pixels [H, W] on one side of a random line through a random pixel of the object."""
    x, y = random_pixel(truth, rng)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
    side: Bool = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle) >= 0
    return side
