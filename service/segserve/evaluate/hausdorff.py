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

from segserve.evaluate.overlap_scores import Float, Int
from segserve.masks.geometry import bounding_box
from segserve.types import Bool

PERCENTILE = 95
FIRST_SAMPLE, SAMPLE_GROWTH = 125, 4  # points asked for first, and how many times as many each time after
LEAF_POINTS = 48

Points: TypeAlias = NDArray[np.floating[Any]]
Spacing = tuple[float, float]  # millimetres, or pixels, from a pixel to the next: down, across
PIXELS: Spacing = (1.0, 1.0)


@dataclass(frozen=True)
class HausdorffDistance:
    """In the unit of the spacing, from 0; infinite where one set is empty."""

    hausdorff: float
    hausdorff_95: float


def region_hausdorff(truth: Bool, found: Bool, spacing: Spacing = PIXELS) -> HausdorffDistance:
    """Of all pixels of two masks [H, W]. Linear in the window that holds both (exact Euclidean distance
    transforms, Maurer et al. 2003)."""
    if not (truth.any() and found.any()):
        return summarise_distances(truth.any() == found.any())
    window = bounding_slices(truth | found)
    truth, found = truth[window], found[window]
    to_found = ndimage.distance_transform_edt(~found, sampling=spacing)[truth]
    to_truth = ndimage.distance_transform_edt(~truth, sampling=spacing)[found]
    return summarise_distances(np.concatenate([to_found, to_truth]))


def boundary_hausdorff(truth: Bool, found: Bool, spacing: Spacing = PIXELS) -> HausdorffDistance:
    """Of the boundary pixels of two masks [H, W], see `find_boundaries`."""
    return point_hausdorff(
        *(np.argwhere(find_boundaries(mask)) * np.array(spacing) for mask in (truth, found))
    )


def point_hausdorff(truth: Points, found: Points) -> HausdorffDistance:
    """Of two sets of points [N, D] and [M, D]; exact, and near-linear in their number, see `DistanceBounds`."""
    if not (len(truth) and len(found)):
        return summarise_distances(len(truth) == len(found))
    bounds, size = DistanceBounds(truth, found), FIRST_SAMPLE
    while (unsettled := bounds.unsettled()).any():
        bounds.ask(unsettled, size)
        size *= SAMPLE_GROWTH
    return summarise_distances(bounds.settled())


class DistanceBounds:
    """Between what bounds the distance from each point of two sets to the other set lies, [N + M].

    A search for the nearest point takes long where it is far compared with how close the points lie. But most
    need not be known exactly: if a point's distance is d, its neighbour's, e away, is at least d - e, and at most
    that to the same nearest point. So some are asked for, then some of those that by their bounds may still
    matter for the largest distance or the percentile.
    """

    def __init__(self, truth: Points, found: Points) -> None:
        self._trees = (build_tree(truth), build_tree(found))
        # In the order of the trees' leaves neighbours follow each other, whatever order they came in.
        self._points = [tree.data[tree.indices] for tree in self._trees]
        self._first = len(truth)
        self.low = np.zeros(len(truth) + len(found))
        self.high = np.full(len(self.low), np.inf)
        rank = (len(self.low) - 1) * PERCENTILE / 100  # numpy's, between two values
        self._ranks = ((len(self.low) - 1,) * 2, (math.floor(rank), math.ceil(rank)))

    def unsettled(self) -> Bool:
        """[N + M]: the points that may be the farthest, or at the percentile, and are not known exactly."""
        matter = np.zeros(len(self.low), np.bool_)
        for lower, upper in self._ranks:
            least = np.partition(self.low, lower)[lower]
            most = np.partition(self.high, upper)[upper]
            matter |= (self.high >= least) & (self.low <= most)
        return matter & (self.low < self.high)

    def ask(self, wanted: Bool, size: int) -> None:
        """Of the wanted points of either set about `size` exactly, evenly, and of the others what that says."""
        for side, offset in ((0, 0), (1, self._first)):
            points, target = self._points[side], self._trees[1 - side]
            left = np.flatnonzero(wanted[offset : offset + len(points)])
            step = max(1, -(-len(left) // size))
            distances, positions = find_nearest(target, points[left[::step]])
            asked = np.repeat(np.arange(len(distances)), step)[: len(left)]
            away = vector_lengths(points[left] - points[left[::step]][asked])
            at_most = vector_lengths(points[left] - target.data[positions[asked]])
            left += offset
            self.low[left] = np.maximum(self.low[left], distances[asked] - away)
            self.high[left] = np.minimum(self.high[left], at_most)
            self.low[left[::step]] = self.high[left[::step]] = distances

    def settled(self) -> Float:
        """Distances whose largest and percentile are exact, where `unsettled` is empty: the others lie on the
        right side of both."""
        lower = self._ranks[1][0]
        below = self.high < np.partition(self.low, lower)[lower]
        return np.where(below, self.high, self.low)


def max_hausdorff(truth: Points, found: Points) -> float:
    """The largest distance of `point_hausdorff` alone, for which fewer points need be asked for."""
    if not (len(truth) and len(found)):
        return 0.0 if len(truth) == len(found) else math.inf
    trees, largest = (build_tree(truth), build_tree(found)), 0.0
    for tree, target in (trees, trees[::-1]):
        left, size = tree.data[tree.indices], FIRST_SAMPLE
        while len(left):
            step = -(-len(left) // size)
            distances, positions = find_nearest(target, left[::step])
            largest = max(largest, float(distances.max()))
            if step == 1:
                break
            away = left - target.data[np.repeat(positions, step)[: len(left)]]
            left = left[np.einsum("ij,ij->i", away, away) > largest * largest]
            size *= SAMPLE_GROWTH
    return largest


def find_nearest(tree: cKDTree, points: Points) -> tuple[Float, Int]:
    """For each point [N, D] the distance to the tree's nearest one, and that one's position."""
    distances, positions = tree.query(points)
    return np.asarray(distances), np.asarray(positions)


def vector_lengths(vectors: Points) -> Float:
    """Of [N, D], [N]."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", vectors, vectors)))


def build_tree(points: Points) -> cKDTree:
    """Sliding midpoint rather than medians: as exact, quicker to build, and boundaries are spread evenly."""
    return cKDTree(points, LEAF_POINTS, balanced_tree=False, compact_nodes=False)


def find_boundaries(labels: NDArray[Any]) -> Bool:
    """[H, W]: the pixels of a mask, or of a map's objects, with one above, below or beside them that is not of
    it; the image's border counts as outside (MedPy's surface in two dimensions)."""
    around = np.pad(labels, 1)
    differs = np.zeros(labels.shape, np.bool_)
    for beside in (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]):
        differs |= beside != labels
    return differs & (labels > 0)


def bounding_slices(mask: Bool) -> tuple[slice, slice]:
    """The smallest window with all of a mask that is not empty."""
    x0, y0, x1, y1 = bounding_box(mask)
    return slice(y0, y1), slice(x0, x1)


def summarise_distances(distances: Points | bool | np.bool_) -> HausdorffDistance:
    """Of the distances of both directions together, or of sets of which one or both are empty."""
    if not isinstance(distances, np.ndarray):
        return HausdorffDistance(0.0, 0.0) if distances else HausdorffDistance(math.inf, math.inf)
    return HausdorffDistance(float(distances.max()), float(np.percentile(distances, PERCENTILE)))
