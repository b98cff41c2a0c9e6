"""Hausdorff distances, in pixels or, with `spacing`, in millimetres.

There are two kinds. Between regions every pixel of a mask is a point of its set. Between boundaries only the
outermost pixels are. They differ where one mask lacks a hole: between regions the hole's pixels are at most as far
away as the hole is deep. Between boundaries the hole's rim is as far from the outer boundary as it lies inside.
Papers mostly mean boundaries.

    distance          the largest distance from a point of either set to the nearest point of the other set
    distance, 95%     the 95th percentile of these distances, of both directions together, as MedPy's `hd95`;
                      others (MONAI) take the larger of the two directions' percentiles

The distance is 0 where both sets are empty, and infinite where one is.
"""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from segserve.evaluate.overlap_scores import Float64
from segserve.masks import geometry
from segserve.types import Bool, Int64

PERCENTILE = 95
# Points that the first round measures exactly, and by how much each later round measures more. Few at first: they
# rule out most of the others.
FIRST_SAMPLE = 125
SAMPLE_GROWTH = 4
LEAF_POINTS = 48  # points of a leaf of the k-d tree, which are compared one by one

Points: TypeAlias = NDArray[np.floating[Any]]
Spacing = tuple[
    float, float
]  # (down, across): the distance from a pixel to the next, in millimetres or pixels
PIXEL_SPACING: Spacing = (1.0, 1.0)


@dataclass(frozen=True)
class HausdorffDistance:
    """The largest distance and the 95th percentile, in the unit of the spacing; infinite where one set is empty."""

    hausdorff: float
    hausdorff_95: float


def region_hausdorff(truth: Bool, prediction: Bool, spacing: Spacing = PIXEL_SPACING) -> HausdorffDistance:
    """Return the distance between all pixels of two masks [H, W].

    The time is linear in the window that holds both (exact Euclidean distance transforms, Maurer et al. 2003).
    """
    if not (truth.any() and prediction.any()):
        return empty_set_distance(both=truth.any() == prediction.any())
    x0, y0, x1, y1 = geometry.bounding_box(truth | prediction)
    truth, prediction = truth[y0:y1, x0:x1], prediction[y0:y1, x0:x1]
    to_prediction = ndimage.distance_transform_edt(~prediction, sampling=spacing)[truth]
    to_truth = ndimage.distance_transform_edt(~truth, sampling=spacing)[prediction]
    return summarise_distances(np.concatenate([to_prediction, to_truth]))


def boundary_hausdorff(truth: Bool, prediction: Bool, spacing: Spacing = PIXEL_SPACING) -> HausdorffDistance:
    """Return the distance between the boundary pixels (see `find_boundaries`) of two masks [H, W]."""
    return point_hausdorff(
        *(np.argwhere(find_boundaries(mask)) * np.array(spacing) for mask in (truth, prediction))
    )


def point_hausdorff(truth: Points, prediction: Points) -> HausdorffDistance:
    """Return the distance between two sets of points [N, D] and [M, D].

    The result is exact, and the time near-linear in the number of points, see `DistanceBounds`.
    """
    if not (len(truth) and len(prediction)):
        return empty_set_distance(both=len(truth) == len(prediction))
    bounds, sample = DistanceBounds(truth, prediction), FIRST_SAMPLE
    while (undecided := bounds.find_undecided()).any():
        bounds.tighten(undecided, sample)
        sample *= SAMPLE_GROWTH
    return summarise_distances(bounds.decided_distances())


class DistanceBounds:
    """Lower and upper bounds of the distance from each point of two sets to the other set, [N + M].

    The search for a nearest point is slow where it is far compared with how close the points lie. But few distances
    must be known exactly. If a point's distance is d, that of another point e away is at least d - e, and at most
    the distance to the same nearest point. So a sample is measured exactly, and the bounds rule out most other
    points for the largest distance and for the percentile. The rest is sampled again.
    """

    def __init__(self, truth: Points, prediction: Points) -> None:
        self._trees = (build_tree(truth), build_tree(prediction))
        # Neighbours follow each other in the order of the trees' leaves, in whatever order the points came.
        self._points = [tree.data[tree.indices] for tree in self._trees]
        self._first = len(truth)
        self.low = np.zeros(len(truth) + len(prediction))
        self.high = np.full(len(self.low), np.inf)
        rank = (len(self.low) - 1) * PERCENTILE / 100  # numpy's percentile interpolates between two ranks
        self._ranks = ((len(self.low) - 1,) * 2, (math.floor(rank), math.ceil(rank)))

    def find_undecided(self) -> Bool:
        """Return [N + M]: the points that may be at the maximum or the percentile, and are not known exactly."""
        relevant = np.zeros(len(self.low), np.bool_)
        for lower, upper in self._ranks:
            min_value = np.partition(self.low, lower)[lower]
            max_value = np.partition(self.high, upper)[upper]
            relevant |= (self.high >= min_value) & (self.low <= max_value)
        return relevant & (self.low < self.high)

    def tighten(self, undecided: Bool, sample: int) -> None:
        """Measure about `sample` undecided points of each set, evenly spread, and bound the others by them."""
        for side, offset in ((0, 0), (1, self._first)):
            points, target = self._points[side], self._trees[1 - side]
            remaining = np.flatnonzero(undecided[offset : offset + len(points)])
            step = max(1, -(-len(remaining) // sample))
            distances, positions = find_nearest(target, points[remaining[::step]])
            nearest_sample = np.repeat(np.arange(len(distances)), step)[: len(remaining)]
            away = vector_lengths(points[remaining] - points[remaining[::step]][nearest_sample])
            at_most = vector_lengths(points[remaining] - target.data[positions[nearest_sample]])
            remaining += offset
            self.low[remaining] = np.maximum(self.low[remaining], distances[nearest_sample] - away)
            self.high[remaining] = np.minimum(self.high[remaining], at_most)
            self.low[remaining[::step]] = self.high[remaining[::step]] = distances

    def decided_distances(self) -> Float64:
        """Return distances [N + M] whose maximum and percentile are exact, once no point is undecided.

        The other distances are bounds, on the right side of both.
        """
        lower = self._ranks[1][0]
        below = self.high < np.partition(self.low, lower)[lower]
        return np.where(below, self.high, self.low)


def max_hausdorff(truth: Points, prediction: Points) -> float:
    """Return the largest distance of `point_hausdorff` alone, which fewer exact searches decide."""
    if not (len(truth) and len(prediction)):
        return 0.0 if len(truth) == len(prediction) else math.inf
    trees, largest = (build_tree(truth), build_tree(prediction)), 0.0
    for tree, target in (trees, trees[::-1]):
        remaining, sample = tree.data[tree.indices], FIRST_SAMPLE
        while len(remaining):
            step = -(-len(remaining) // sample)
            distances, positions = find_nearest(target, remaining[::step])
            largest = max(largest, float(distances.max()))
            if step == 1:
                break
            away = remaining - target.data[np.repeat(positions, step)[: len(remaining)]]
            remaining = remaining[np.einsum("ij,ij->i", away, away) > largest * largest]
            sample *= SAMPLE_GROWTH
    return largest


def find_nearest(tree: cKDTree, points: Points) -> tuple[Float64, Int64]:
    """Return for each point [N, D] (the distance to the tree's nearest point [N], the position of that one [N])."""
    distances, positions = tree.query(points)
    return np.asarray(distances), np.asarray(positions)


def vector_lengths(vectors: Points) -> Float64:
    """Return the Euclidean lengths [N] of vectors [N, D]."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def build_tree(points: Points) -> cKDTree:
    """Build a k-d tree by sliding midpoints. It is as exact as one by medians, and builds faster.

    Medians would pay for points that are spread unevenly; those of boundaries are spread evenly.
    """
    return cKDTree(points, LEAF_POINTS, balanced_tree=False, compact_nodes=False)


def find_boundaries(labels: NDArray[Any]) -> Bool:
    """Return the pixels or voxels of a mask, or of a map's objects, that touch another value, [H, W] or [N, H, W].

    Only neighbours along one axis count: four pixels, or six voxels. Beyond the border is outside (MedPy's surface of
    connectivity 1).
    """
    around = np.pad(labels, 1)
    differs = np.zeros(labels.shape, np.bool_)
    inside = (slice(1, -1),) * labels.ndim
    for axis in range(labels.ndim):
        for shifted in (slice(2, None), slice(None, -2)):
            differs |= around[(*inside[:axis], shifted, *inside[axis + 1 :])] != labels
    return differs & (labels > 0)


def summarise_distances(distances: Points) -> HausdorffDistance:
    """Return the maximum and the percentile of the distances of both directions together, [N + M]."""
    return HausdorffDistance(float(distances.max()), float(np.percentile(distances, PERCENTILE)))


def empty_set_distance(*, both: bool | np.bool_) -> HausdorffDistance:
    """Return the distance of two sets of which at least one is empty: 0 if both are, else infinite."""
    return HausdorffDistance(0.0, 0.0) if both else HausdorffDistance(math.inf, math.inf)
