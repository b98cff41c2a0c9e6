"""Hausdorff distances, in pixels or, with `spacing`, in millimetres.

Between regions every pixel of a mask is a point of its set; between boundaries only the outermost ones are. They
differ: a hole that one mask lacks is at most its own depth away between regions, where what covers it counts,
while between boundaries its rim is as far from the outer boundary as it lies inside. Papers mostly mean boundaries.

    distance          the largest distance from a point of either set to the nearest of the other
    distance, 95%     the 95th percentile of all these distances, both directions together, as MedPy's `hd95`;
                      others (MONAI) take the larger of the two directions' percentiles

0 where both sets are empty, infinite where one is.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from segserve.evaluate.overlap import Float, Int
from segserve.types import Bool

PERCENTILE = 95
SAMPLE = (16, 4)  # of so many points that lie together one is asked for, then of those left
LEAF_POINTS = 24

Points: TypeAlias = NDArray[np.floating[Any]]
Spacing = tuple[float, float]  # millimetres, or pixels, from a pixel to the next: down, across
PIXELS: Spacing = (1.0, 1.0)


@dataclass(frozen=True)
class Distance:
    """In the unit of the spacing, from 0; infinite where one set is empty."""

    hausdorff: float
    hausdorff_95: float


def between_regions(truth: Bool, found: Bool, spacing: Spacing = PIXELS) -> Distance:
    """Of all pixels of two masks [H, W]. Linear in the window that holds both (exact Euclidean distance
    transforms, Maurer et al. 2003)."""
    if not (truth.any() and found.any()):
        return summarise(truth.any() == found.any())
    window = span(truth | found)
    truth, found = truth[window], found[window]
    to_found = ndimage.distance_transform_edt(~found, sampling=spacing)[truth]
    to_truth = ndimage.distance_transform_edt(~truth, sampling=spacing)[found]
    return summarise(np.concatenate([to_found, to_truth]))


def between_boundaries(truth: Bool, found: Bool, spacing: Spacing = PIXELS) -> Distance:
    """Of the boundary pixels of two masks [H, W], see `boundary`."""
    return between_points(*(np.argwhere(boundary(mask)) * np.array(spacing) for mask in (truth, found)))


def between_points(truth: Points, found: Points) -> Distance:
    """Of two sets of points [N, D] and [M, D]: all distances to the nearest, by k-d trees."""
    if not (len(truth) and len(found)):
        return summarise(len(truth) == len(found))
    return summarise(np.concatenate([nearest(plant(found), truth)[0], nearest(plant(truth), found)[0]]))


def hausdorff(truth: Points, found: Points) -> float:
    """The largest distance of `between_points` alone, for which most points need not be asked for: one whose
    neighbour's nearest point is not farther from it than the largest distance known so far cannot raise it."""
    if not (len(truth) and len(found)):
        return 0.0 if len(truth) == len(found) else math.inf
    trees = [plant(truth), plant(found)]
    # In the order of the leaves neighbours follow each other, whatever order they came in.
    left = [tree.data[tree.indices] for tree in trees]
    largest = 0.0
    for step in SAMPLE:
        asked = [nearest(trees[1 - side], left[side][::step]) for side in (0, 1)]
        largest = max(largest, *(distances.max(initial=0.0) for distances, _ in asked))
        for side, (_, positions) in enumerate(asked):
            points = left[side]
            away = points - trees[1 - side].data[np.repeat(positions, step)[: len(points)]]
            left[side] = points[np.einsum("ij,ij->i", away, away) > largest * largest]
    remaining = [nearest(trees[1 - side], left[side])[0].max(initial=0.0) for side in (0, 1)]
    return float(max(largest, *remaining))


def nearest(tree: cKDTree, points: Points) -> tuple[Float, Int]:
    """For each point [N, D] the distance to the tree's nearest one, and that one's position."""
    distances, positions = tree.query(points)
    return np.asarray(distances), np.asarray(positions)


def plant(points: Points) -> cKDTree:
    """Sliding midpoint rather than medians: as exact, quicker to build, and boundaries are spread evenly."""
    return cKDTree(points, LEAF_POINTS, balanced_tree=False, compact_nodes=False)


def boundary(labels: NDArray[Any]) -> Bool:
    """[H, W]: the pixels of a mask, or of a map's objects, with one above, below or beside them that is not of
    it; the image's border counts as outside (MedPy's surface in two dimensions)."""
    around = np.pad(labels, 1)
    differs = np.zeros(labels.shape, np.bool_)
    for beside in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
        differs |= beside != labels
    return differs & (labels > 0)


def span(mask: Bool) -> tuple[slice, slice]:
    """The smallest window with all of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def summarise(distances: Points | bool | np.bool_) -> Distance:
    """Of the distances of both directions together, or of sets of which one or both are empty."""
    if not isinstance(distances, np.ndarray):
        return Distance(0.0, 0.0) if distances else Distance(math.inf, math.inf)
    return Distance(float(distances.max()), float(np.percentile(distances, PERCENTILE)))
