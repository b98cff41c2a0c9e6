"""In which order the slices of all objects are segmented. Each object goes as in μSAM 1.8
(`micro_sam.multi_dimensional_segmentation.segment_mask_in_volume`):

    below the lowest annotated slice   downwards, each from the one above, until it changes too much
    above the highest one              upwards alike
    between two annotated slices       from both, and the one in the middle from both of its neighbours

All objects go together, up and then down, so that a slice is read and encoded once a way.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from segserve.types import Direction

# Where a chain begins, and which way it goes: 1, -1, or 0 for the middle alone.
Chain = tuple[int, int]


@dataclass(frozen=True)
class SliceStep:
    """One object on one slice. sources: the slices whose masks, put together, are its prompt. chain: steps of a chain
    follow from each other: where one is empty, or stops, the rest of it is. stops: where it differs too much from its
    source."""

    slice: int
    sources: tuple[int, ...]
    chain: Chain
    stops: bool


@dataclass(frozen=True)
class ProjectionVisit:
    """What is done on one slice at a time. annotated: objects of which the user said what is there, and how often the
    job had been asked for more by then. steps: of the others, by object."""

    slice: int
    annotated: tuple[tuple[int, int], ...]
    steps: tuple[tuple[int, SliceStep], ...]


def plan_projection(
    annotated: Mapping[int, Mapping[int, int]], count: int, direction: Direction
) -> list[ProjectionVisit]:
    """annotated: of each object its slices with prompts, and the revision of the latest of them. count: of all
    slices."""
    by_way: dict[int, dict[int, list[tuple[int, SliceStep]]]] = {1: {}, -1: {}, 0: {}}
    marked = defaultdict[int, list[tuple[int, int]]](list)
    for name, slices in annotated.items():
        for step in plan_object(sorted(slices), count, direction):
            by_way[step.chain[1]].setdefault(step.slice, []).append((name, step))
        for at, revision in slices.items():
            marked[at].append((name, revision))
    up = [
        ProjectionVisit(at, tuple(marked.get(at, ())), tuple(by_way[1].get(at, ())))
        for at in sorted(marked.keys() | by_way[1].keys())
    ]
    down = [ProjectionVisit(at, (), tuple(found)) for at, found in sorted(by_way[-1].items(), reverse=True)]
    middle = [ProjectionVisit(at, (), tuple(found)) for at, found in sorted(by_way[0].items())]
    return up + down + middle


def plan_object(annotated: list[int], count: int, direction: Direction) -> Iterator[SliceStep]:
    """Of one object. annotated: ascending."""
    low, high = annotated[0], annotated[-1]
    if direction is not Direction.BACKWARD:
        yield from chain_steps(high, count, 1, stops=True)
    if direction is not Direction.FORWARD:
        yield from chain_steps(low, -1, -1, stops=True)
    for begin, end in pairwise(annotated):
        yield from steps_between(begin, end)


def chain_steps(begin: int, end: int, by: int, *, stops: bool) -> Iterator[SliceStep]:
    """From the neighbour of `begin` to that of `end`."""
    for at in range(begin + by, end, by):
        yield SliceStep(at, (at - by,), (begin, by), stops)


def steps_between(begin: int, end: int) -> Iterator[SliceStep]:
    """From both sides to the middle; a slice that is as far from both is segmented from both."""
    middle = (begin + end) // 2
    shared = (end - begin) % 2 == 0
    yield from chain_steps(begin, middle + (not shared), 1, stops=False)
    yield from chain_steps(end, middle, -1, stops=False)
    if shared:
        yield SliceStep(middle, (middle - 1, middle + 1), (middle, 0), False)
