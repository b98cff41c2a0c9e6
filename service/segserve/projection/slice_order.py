"""The order in which the slices of all objects are segmented. Each object goes as in micro-SAM (μSAM) 1.8
(`micro_sam.multi_dimensional_segmentation.segment_mask_in_volume`):

    below the lowest annotated slice    downwards, each slice from the one above, until the mask changes too much
    above the highest annotated slice   upwards, in the same way
    between two annotated slices        from both, and the middle slice from both of its neighbours

All objects go together, first up and then down, so that a slice is read and encoded once for each direction.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from segserve.types import Direction

# (the slice where a chain begins, its direction: 1, -1, or 0 for a middle slice alone).
Chain = tuple[int, int]


@dataclass(frozen=True)
class SliceStep:
    """One object on one slice without a prompt.

    sources: the slices whose masks, joined, are its prompt.
    chain: the steps of a chain follow from each other. If one finds nothing, or stops, the rest of the chain is empty.
    stops: True if the chain stops here when the mask differs too much from its source.
    is_last: True if the video or volume ends with this slice.
    """

    slice: int
    sources: tuple[int, ...]
    chain: Chain
    stops: bool
    is_last: bool = False


@dataclass(frozen=True)
class ProjectionVisit:
    """The work on one slice at a time.

    annotated: (object id, revision of its latest prompt) of the objects with a prompt on the slice.
    steps: (object id, step) of the other objects.
    """

    slice: int
    annotated: tuple[tuple[int, int], ...]
    steps: tuple[tuple[int, SliceStep], ...]


def plan_projection(
    annotated: Mapping[int, Mapping[int, int]], count: int, direction: Direction
) -> list[ProjectionVisit]:
    """Return the visits of a job.

    annotated: for each object id its slices with prompts, each with the revision of its latest prompt.
    count: number of slices.
    """
    by_way: dict[int, dict[int, list[tuple[int, SliceStep]]]] = {1: {}, -1: {}, 0: {}}
    with_prompts = defaultdict[int, list[tuple[int, int]]](list)
    for object_id, slices in annotated.items():
        for step in plan_object(sorted(slices), count, direction):
            by_way[step.chain[1]].setdefault(step.slice, []).append((object_id, step))
        for index, revision in slices.items():
            with_prompts[index].append((object_id, revision))
    up = [
        ProjectionVisit(index, tuple(with_prompts.get(index, ())), tuple(by_way[1].get(index, ())))
        for index in sorted(with_prompts.keys() | by_way[1].keys())
    ]
    down = [
        ProjectionVisit(index, (), tuple(steps)) for index, steps in sorted(by_way[-1].items(), reverse=True)
    ]
    middle = [ProjectionVisit(index, (), tuple(steps)) for index, steps in sorted(by_way[0].items())]
    return up + down + middle


def plan_object(annotated: list[int], count: int, direction: Direction) -> Iterator[SliceStep]:
    """Yield the steps of one object. annotated: its slices with prompts, ascending. count: number of slices."""
    low, high = annotated[0], annotated[-1]
    if direction is not Direction.BACKWARD:
        yield from chain_steps(high, count, 1, stops=True)
    if direction is not Direction.FORWARD:
        yield from chain_steps(low, -1, -1, stops=True)
    for begin, end in pairwise(annotated):
        yield from steps_between(begin, end)


def chain_steps(begin: int, end: int, by: int, *, stops: bool) -> Iterator[SliceStep]:
    """Yield the steps from the neighbour of slice `begin` up to the neighbour of slice `end`. by: 1 or -1."""
    for index in range(begin + by, end, by):
        yield SliceStep(index, (index - by,), (begin, by), stops, stops and index == end - by)


def steps_between(begin: int, end: int) -> Iterator[SliceStep]:
    """Yield the steps from two annotated slices to the middle. A slice in the very middle is segmented from both."""
    middle = (begin + end) // 2
    has_middle = (end - begin) % 2 == 0
    yield from chain_steps(begin, middle + (not has_middle), 1, stops=False)
    yield from chain_steps(end, middle, -1, stops=False)
    if has_middle:
        yield SliceStep(middle, (middle - 1, middle + 1), (middle, 0), False)
