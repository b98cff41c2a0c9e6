"""In which order an object's slices are segmented, as μSAM 1.8 does it
(`micro_sam.multi_dimensional_segmentation.segment_mask_in_volume`).

    below the lowest annotated slice   downwards, each from the one above, until it changes too much
    above the highest one              upwards alike
    between two annotated slices       from both, and the one in the middle from both of its neighbours
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Direction(StrEnum):
    """Along the slices. What lies between annotated slices is always segmented."""

    FORWARD = "forward"
    BACKWARD = "backward"
    BOTH = "both"


@dataclass(frozen=True)
class Step:
    """One slice. sources: the slices whose masks, put together, are its prompt. chain: steps of a chain follow from
    each other: where one is empty, or stops, the rest of it is. stops: where it differs too much from its source."""

    slice: int
    sources: tuple[int, ...]
    chain: int
    stops: bool


def plan(annotated: list[int], count: int, direction: Direction) -> list[Step]:
    """annotated: slices with masks, ascending. count: of all slices."""
    low, high = annotated[0], annotated[-1]
    chains = list[list[Step]]()
    if direction is not Direction.FORWARD:
        chains.append(list(run(low, -1, -1, len(chains), stops=True)))
    if direction is not Direction.BACKWARD:
        chains.append(list(run(high, count, 1, len(chains), stops=True)))
    for begin, end in pairwise(annotated):
        chains += between(begin, end, len(chains))
    return [step for chain in chains for step in chain]


def run(begin: int, end: int, by: int, chain: int, *, stops: bool) -> Iterator[Step]:
    """From the neighbour of `begin` to that of `end`."""
    for at in range(begin + by, end, by):
        yield Step(at, (at - by,), chain, stops)


def between(begin: int, end: int, chain: int) -> list[list[Step]]:
    """From both sides to the middle; a slice that is as far from both is segmented from both."""
    middle = (begin + end) // 2
    even = (end - begin) % 2 == 0
    up = list(run(begin, middle + (not even), 1, chain, stops=False))
    down = list(run(end, middle, -1, chain + 1, stops=False))
    if not even or begin + 1 == end:
        return [up, down]
    return [up, down, [Step(middle, (middle - 1, middle + 1), chain + 2, False)]]
