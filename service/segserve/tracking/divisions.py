"""Divisions: a segment that begins beside another one is its daughter, if both go on, and look like it."""

from collections.abc import Sequence

import numpy as np

from segserve.tracking.assignment import assign_pairs
from segserve.tracking.objects import FrameObjects
from segserve.tracking.segments import Segment, find_near

# Daughters are alike in size: the larger one is at most so many times as large.
MAX_DAUGHTER_RATIO = 2.5
# A daughter is so much smaller than her mother, as a part of the mother's area.
MAX_DAUGHTER_AREA = 0.75
# More than any division costs: two daughters at the cutoff, of the most different sizes.
MAX_DIVISION_COST = 3.0

Source = tuple[int, int]  # a mother's segment, and the frame on which its daughters begin


def find_divisions(
    frames: Sequence[FrameObjects],
    segments: Sequence[Segment],
    cutoff_px: float,
    min_daughter_frames: int,
) -> dict[int, int]:
    """Return the mother's segment of every segment that begins as a daughter. It is parted where the daughter begins.

    A mother has one such daughter at a time; the rest of her own segment is the other one.
    """
    segment_of = {node: index for index, segment in enumerate(segments) for node in segment.items()}
    beginning: dict[int, list[int]] = {}
    for index, segment in enumerate(segments):
        if min(segment) > 0 and len(segment) >= min_daughter_frames:
            beginning.setdefault(min(segment), []).append(index)
    sources, daughters, costs = list[Source](), list[int](), list[float]()
    for frame, starting in beginning.items():
        positions = [segments[index][frame] for index in starting]
        before, after = frames[frame - 1], frames[frame]
        for number, position in find_near(after.centres[positions], before.centres, cutoff_px).tolist():
            mother = segment_of[frame - 1, position]
            later = sum(each >= frame for each in segments[mother])
            if frame not in segments[mother] or later < min_daughter_frames:
                continue
            cost = compute_division_cost(frames, segments[mother], positions[number], frame, cutoff_px)
            if cost is not None:
                sources.append((mother, frame))
                daughters.append(starting[number])
                costs.append(cost)
    if not costs:
        return {}
    numbers = {source: number for number, source in enumerate(dict.fromkeys(sources))}
    pairs = np.array(
        [(numbers[source], daughter) for source, daughter in zip(sources, daughters, strict=True)]
    )
    chosen = assign_pairs(pairs, np.array(costs), MAX_DIVISION_COST)
    return {daughters[index]: sources[index][0] for index in chosen}


def compute_division_cost(
    frames: Sequence[FrameObjects], mother: Segment, daughter: int, frame: int, cutoff_px: float
) -> float | None:
    """Return the cost of a division into two objects of `frame`; None if it is none.

    daughter: the position of the one that begins. The other one is where the mother's segment goes on.
    A mother lies between her daughters: their middle is nearer to her than each of them. Where she moved too far to
    tell, she was larger than the daughter that her segment goes on to. Beside a cell that comes from elsewhere, she
    stays where she was, and as large.
    """
    before, after = frames[frame - 1], frames[frame]
    origin, mother_area = before.centres[mother[frame - 1]], before.areas[mother[frame - 1]]
    daughters = [mother[frame], daughter]
    centres, areas = after.centres[daughters], after.areas[daughters]
    distances = np.linalg.norm(centres - origin, axis=1)
    middle = float(np.linalg.norm(centres.mean(axis=0) - origin))
    ratio = float(areas.max() / areas.min())
    is_between = middle < distances.min()
    has_shrunk = areas[0] < MAX_DAUGHTER_AREA * mother_area and middle < distances.mean()
    if distances.max() > cutoff_px or ratio > MAX_DAUGHTER_RATIO or not (is_between or has_shrunk):
        return None
    return float((distances**2).sum() / cutoff_px**2 + np.log2(ratio) / 4)
