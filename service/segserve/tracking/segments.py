"""Segments: objects linked from frame to frame and over gaps, before divisions are found.

First the objects of neighbouring frames are linked, so that the sum of the costs is least. Then the ends of segments
are joined to beginnings nearby, over the frames on which an object was missed (gap closing).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from segserve.tracking.assignment import assign_pairs
from segserve.tracking.linking_params import LinkingParams
from segserve.tracking.objects import FrameObjects
from segserve.types import Int64

# A link over the whole cutoff costs 1, and so much more for other size and likeness; one that costs more is not made.
MAX_LINK_COST = 1.5
# Of two gaps that are alike otherwise, the shorter one is closed.
COST_PER_MISSED_FRAME = 0.1

# The objects of a segment: frame -> position of the object on it, in the order of frames.
Segment = dict[int, int]
Node = tuple[int, int]  # frame, position of the object


@dataclass(frozen=True)
class LinkCosts:
    """What it costs that two objects are the same one. weights: see `LinkingParams`."""

    size_weight: float
    likeness_weight: float

    @classmethod
    def of(cls, params: LinkingParams) -> "LinkCosts":
        return cls(params.size_weight, params.likeness_weight)

    def compute(
        self, first: FrameObjects, second: FrameObjects, pairs: Int64, cutoff_px: float
    ) -> NDArray[np.float64]:
        """Return the costs of pairs [k, 2] of objects of two frames: [k]."""
        before, after = pairs.T
        shifts = first.centres[before] - second.centres[after]
        costs = (shifts**2).sum(axis=1) / cutoff_px**2
        costs += self.size_weight * np.log2(first.areas[before] / second.areas[after]) ** 2
        if first.descriptors is not None and second.descriptors is not None:
            likeness = (first.descriptors[before] * second.descriptors[after]).sum(axis=1)
            costs += self.likeness_weight * (1 - likeness)
        return np.asarray(costs)


def link_segments(
    frames: Sequence[FrameObjects], params: LinkingParams, cutoff_px: float, gap_cutoff_px: float
) -> list[Segment]:
    """Link the objects of all frames to segments, in the order in which these begin."""
    costs = LinkCosts.of(params)
    following: dict[Node, Node] = {}
    for frame, (before, after) in enumerate(pairwise(frames)):
        for first, second in link_frames(before, after, costs, cutoff_px):
            following[frame, first] = (frame + 1, second)
    if gap_cutoff_px > 0:
        following |= close_gaps(frames, following, costs, gap_cutoff_px, params.gap_closing_max_frame_count)
    return follow_links(frames, following)


def link_frames(
    before: FrameObjects, after: FrameObjects, costs: LinkCosts, cutoff_px: float
) -> list[tuple[int, int]]:
    """Return the pairs of objects of two frames that are the same one."""
    pairs = find_near(before.centres, after.centres, cutoff_px)
    linked = assign_pairs(pairs, costs.compute(before, after, pairs, cutoff_px), MAX_LINK_COST)
    return [(int(first), int(second)) for first, second in pairs[linked]]


def find_near(first: NDArray[np.float64], second: NDArray[np.float64], distance_px: float) -> Int64:
    """Return the pairs [k, 2] of points of two sets [n, 2] and [m, 2] that are near each other, in order."""
    if distance_px <= 0 or not (len(first) and len(second)):
        return np.zeros((0, 2), np.int64)
    near = KDTree(first).query_ball_tree(KDTree(second), distance_px)
    pairs = [(index, other) for index, others in enumerate(near) for other in sorted(others)]
    return np.array(pairs, np.int64).reshape(-1, 2)


def close_gaps(
    frames: Sequence[FrameObjects],
    following: dict[Node, Node],
    costs: LinkCosts,
    cutoff_px: float,
    max_frame_count: int,
) -> dict[Node, Node]:
    """Return the links from ends of segments to beginnings up to `max_frame_count` frames later."""
    linked = set(following.values())
    ends = [[i for i in range(each.count) if (t, i) not in following] for t, each in enumerate(frames)]
    begins = [[i for i in range(each.count) if (t, i) not in linked] for t, each in enumerate(frames)]
    numbers = {node: number for number, node in enumerate((t, i) for t, row in enumerate(ends) for i in row)}
    targets = [(t, i) for t, row in enumerate(begins) for i in row]
    target_numbers = {node: number for number, node in enumerate(targets)}
    pairs, prices = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for frame, before in enumerate(frames):
        for gap in range(2, max_frame_count + 1):
            if frame + gap >= len(frames) or not (ends[frame] and begins[frame + gap]):
                continue
            after = frames[frame + gap]
            near = find_near(before.centres[ends[frame]], after.centres[begins[frame + gap]], cutoff_px)
            if not len(near):
                continue
            objects = np.stack(
                [np.array(ends[frame])[near[:, 0]], np.array(begins[frame + gap])[near[:, 1]]], axis=1
            )
            price = costs.compute(before, after, objects, cutoff_px) + (gap - 1) * COST_PER_MISSED_FRAME
            pairs.append(
                np.array(
                    [(numbers[frame, a], target_numbers[frame + gap, b]) for a, b in objects.tolist()],
                    np.int64,
                )
            )
            prices.append(price)
    joined, sources = np.concatenate(pairs), list(numbers)
    chosen = assign_pairs(joined, np.concatenate(prices), MAX_LINK_COST)
    return {sources[first]: targets[second] for first, second in joined[chosen].tolist()}


def follow_links(frames: Sequence[FrameObjects], following: dict[Node, Node]) -> list[Segment]:
    """Return the segments that the links make, in the order in which they begin."""
    later = set(following.values())
    segments = []
    for frame, objects in enumerate(frames):
        for position in range(objects.count):
            node: Node | None = (frame, position)
            if node in later:
                continue
            segment = Segment()
            while node is not None:
                segment[node[0]] = node[1]
                node = following.get(node)
            segments.append(segment)
    return segments
