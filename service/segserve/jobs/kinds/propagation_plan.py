"""What an engine is asked on which slice, in which order: known before anything is worked, from the request alone."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from segserve.jobs.kinds.job_requests import EngineName, PropagationRequest
from segserve.projection import slice_order as projection
from segserve.types import Direction

VISITS_PER_CHUNK = 8  # visits: at most so many are done again after a crash, and results come in such pieces

# Chunks between two states that are kept: those of a memory are some MB for each object, and what is kept is there for
# corrections, which are few.
CHUNKS_PER_KEPT_STATE = {EngineName.PROJECTION: 1, EngineName.MEMORY: 8}


class Visit(Protocol):
    """All that is asked of an engine at a time; each has a type of its own. What it makes of equal visits, in a row
    from the first on, is equal."""

    @property
    def slice(self) -> int: ...


@dataclass(frozen=True)
class MemoryVisit:
    """prompts: (object, slice, revision) that are taken to memory before the slice is looked at. reverse: on the way
    back."""

    slice: int
    reverse: bool
    prompts: tuple[tuple[int, int, int], ...]


def plan_visits(request: PropagationRequest, count: int) -> Sequence[Visit]:
    """count: of slices. Blocks: there may be a million things to do."""
    if request.engine is EngineName.PROJECTION:
        return projection.plan_projection(request.annotated_slices(), count, request.direction)
    return plan_memory_visits(request, count)


def plan_memory_visits(request: PropagationRequest, count: int) -> list[MemoryVisit]:
    """In the order of `SAM2VideoPredictor`: forward from the earliest prompt, then back from there. It takes all
    prompts to memory first; what was asked for later is when its slice is reached."""
    asked = {
        (each.object_id, prompt.slice, prompt.revision) for each in request.objects for prompt in each.prompts
    }
    in_turn = sorted(asked, key=lambda prompt: (prompt[2], prompt[1], prompt[0]))
    first = [prompt for prompt in in_turn if not prompt[2]]
    later = defaultdict[int, list[tuple[int, int, int]]](list)
    for prompt in in_turn[len(first) :]:
        later[prompt[1]].append(prompt)
    way = order_slices(request.direction, [at for _, at, _ in first], list(later), count)
    return [
        MemoryVisit(at, reverse, (*(first if not number else ()), *later.get(at, ())))
        for number, (at, reverse) in enumerate(way)
    ]


def order_slices(
    direction: Direction, first: list[int], later: list[int], count: int
) -> list[tuple[int, bool]]:
    """(slice, on the way back). first, later: slices with prompts."""
    match direction:
        case Direction.FORWARD:
            return [(at, False) for at in range(min(first + later), count)]
        case Direction.BACKWARD:
            return [(at, True) for at in range(max(first + later), -1, -1)]
        case Direction.BOTH:
            begin = min(first)
            forward = [(at, False) for at in range(begin, count)]
            return forward + [(at, True) for at in range(begin - 1, -1, -1)]


def count_kept_chunks(before: PropagationRequest, after: PropagationRequest, count: int) -> int:
    """How many chunks of a job stay as they are when it is asked for more. count: of slices. Blocks."""
    pairs = zip(plan_visits(before, count), plan_visits(after, count), strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) // VISITS_PER_CHUNK
    return alike - alike % CHUNKS_PER_KEPT_STATE[before.engine]
