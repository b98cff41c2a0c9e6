"""Mending of splits: an object that is found in pieces on some frames is one object.

A watershed cuts a bent nucleus in two on one frame, and not on the next. A cell may divide, but two cells never become
one. So of two segments that touch, every frame is one of two states, one object or two, and the second never goes back
to the first. The states that agree best with what is seen are found by dynamic programming:

    seen                              one object costs                       two objects cost
    two that touch                    1                                      0
    two that are apart                1 a half diameter of space, at most    0
                                      `min_daughter_frames`
    one, as large as both together    0                                      1
    one, as large as one of them      half                                   0
    a division                        `min_daughter_frames`, once

So two pieces that last shorter than `min_daughter_frames`, or that come together again, are one object.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.tracking.objects import FrameObjects, Pieces
from segserve.tracking.segments import Segment

# Pieces of one object share at least so much of a border, as a part of the smaller one's diameter. Two round cells
# that touch share less.
MIN_CONTACT = 0.3


@dataclass(frozen=True)
class SplitObject:
    """Two segments that are one object on some frames. gain: how much better that explains what is seen."""

    first: int
    second: int
    frames: list[int]
    gain: float


def mend_splits(
    frames: Sequence[FrameObjects], segments: Sequence[Segment], min_daughter_frames: int
) -> list[list[Pieces]] | None:
    """Return the pieces of all objects after mending, frame by frame; None if there is nothing to mend.

    A segment is mended with one other at a time; so it is called until there is nothing to mend.
    """
    splits = [
        split
        for first, second in find_touching(frames, segments)
        if (split := find_split(frames, segments, first, second, min_daughter_frames))
    ]
    pieces: list[list[Pieces | None]] = [[*objects.pieces] for objects in frames]
    used: set[int] = set()
    for split in sorted(splits, key=lambda split: (-split.gain, split.first, split.second)):
        if not used & {split.first, split.second}:
            used |= {split.first, split.second}
            for frame in split.frames:
                first, second = segments[split.first][frame], segments[split.second][frame]
                objects = frames[frame].pieces
                pieces[frame][first] = tuple(sorted(objects[first] + objects[second]))
                pieces[frame][second] = None
    return [[each for each in row if each is not None] for row in pieces] if used else None


def find_touching(frames: Sequence[FrameObjects], segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """Return the pairs of segments that share enough of a border on some frame."""
    segment_of = {node: index for index, segment in enumerate(segments) for node in segment.items()}
    pairs = {
        tuple(sorted((segment_of[frame, first], segment_of[frame, second])))
        for frame, objects in enumerate(frames)
        for first, second in objects.contacts
        if measure_contact(objects, first, second) >= MIN_CONTACT
    }
    return sorted((first, second) for first, second in pairs)


def measure_contact(objects: FrameObjects, first: int, second: int) -> float:
    """Return the border that two objects share, as a part of the smaller one's diameter."""
    length = objects.contacts.get((min(first, second), max(first, second)), 0.0)
    return float(length / diameter_px(min(objects.areas[first], objects.areas[second])))


def diameter_px(area: float) -> float:
    return float(2 * np.sqrt(area / np.pi))


def find_split(
    frames: Sequence[FrameObjects],
    segments: Sequence[Segment],
    first: int,
    second: int,
    min_daughter_frames: int,
) -> SplitObject | None:
    """Return on which frames two segments are one object; None if on none."""
    one, two = segments[first], segments[second]
    both = sorted(one.keys() & two.keys())
    seen = sorted(one.keys() | two.keys())
    if len(seen) == len(both):  # never seen as one, so two objects explain all of it
        return None
    costs = np.array([compute_costs(frames, one, two, both, frame, min_daughter_frames) for frame in seen])
    count, gain = count_united(costs, min_daughter_frames)
    united = [frame for frame in seen[:count] if frame in one and frame in two]
    return SplitObject(first, second, united, gain) if united else None


def compute_costs(
    frames: Sequence[FrameObjects],
    one: Segment,
    two: Segment,
    both: list[int],
    frame: int,
    min_daughter_frames: int,
) -> tuple[float, float]:
    """Return what it costs that two segments are one object on a frame, and that they are two."""
    objects = frames[frame]
    if frame in one and frame in two:
        first, second = one[frame], two[frame]
        if measure_contact(objects, first, second) >= MIN_CONTACT:
            return 1.0, 0.0
        radii = (diameter_px(objects.areas[first]) + diameter_px(objects.areas[second])) / 2
        distance = float(np.linalg.norm(objects.centres[first] - objects.centres[second]))
        return min(min_daughter_frames, 1.0 + max(0.0, distance / radii - 1) * 2), 0.0
    nearest = min(both, key=lambda other: abs(other - frame))
    area = objects.areas[one[frame] if frame in one else two[frame]]
    pieces = frames[nearest].areas[[one[nearest], two[nearest]]]
    part = pieces[0 if frame in one else 1]
    is_whole = abs(np.log(area / pieces.sum())) < abs(np.log(area / part))
    return (0.0, 1.0) if is_whole else (0.5, 0.0)


def count_united(costs: NDArray[np.float64], division_cost: float) -> tuple[int, float]:
    """Return the number of frames from the first on that are one object, and the gain over two from the start.

    costs: [n, 2], of one object and of two on each frame.
    """
    united = np.append(0.0, np.cumsum(costs[:, 0]))
    parted = np.append(np.cumsum(costs[::-1, 1])[::-1], 0.0)
    totals = united + parted + division_cost
    totals[-1] -= division_cost  # one object to the end: it never divides
    totals[0] -= division_cost  # two objects from the start on
    # Of equally good explanations, the one with more frames as two objects: what is found is changed least.
    best = int(np.argmin(totals))
    return best, float(totals[0] - totals[best])
