"""The plan of a propagation job: which slices an engine visits, in which order.

It follows from the request alone. So it is known before any work is done, and it is the same in every worker.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from segserve.jobs.kinds.job_requests import EngineName, PropagationRequest
from segserve.projection.slice_order import plan_projection
from segserve.types import Direction

# Visits of one chunk: at most this many are made again after a crash, and results are published in such pieces.
VISITS_PER_CHUNK = 8

# Chunks between two states that are kept for later corrections. A state of the memory engine has some MB for each
# object, and corrections are few, so it keeps only some.
CHUNKS_PER_KEPT_STATE = {EngineName.PROJECTION: 1, EngineName.MEMORY: 8}


class Visit(Protocol):
    """`Visit` is one step of a plan: the work of an engine on one slice. Each engine has its own type of visits.

    An engine that makes equal visits in a row, from the first on, comes to equal results.
    """

    @property
    def slice(self) -> int: ...


@dataclass(frozen=True)
class MemoryVisit:
    """A visit of the memory engine.

    reverse: True on the way back.
    prompts: (object id, slice, revision) that are added before the slice is tracked.
    """

    slice: int
    reverse: bool
    prompts: tuple[tuple[int, int, int], ...]


def plan_visits(request: PropagationRequest, count: int) -> Sequence[Visit]:
    """Return the visits of a job. count: number of slices. Blocks: there may be a million visits."""
    if request.engine is EngineName.PROJECTION:
        return plan_projection(request.annotated_slices(), count, request.direction)
    return plan_memory_visits(request, count)


def plan_memory_visits(request: PropagationRequest, count: int) -> list[MemoryVisit]:
    """Return the visits of the memory engine, in the order of `SAM2VideoPredictor`.

    They go forward from the earliest prompt, and then back from there. The first visit adds all prompts of the
    submission. A prompt that was added later waits for the visit to its slice.
    """
    prompts = {
        (item.object_id, prompt.slice, prompt.revision) for item in request.objects for prompt in item.prompts
    }
    ordered = sorted(prompts, key=lambda prompt: (prompt[2], prompt[1], prompt[0]))
    first = [prompt for prompt in ordered if not prompt[2]]
    later = defaultdict[int, list[tuple[int, int, int]]](list)
    for prompt in ordered[len(first) :]:
        later[prompt[1]].append(prompt)
    slices = order_slices(request.direction, [index for _, index, _ in first], list(later), count)
    return [
        MemoryVisit(index, reverse, (*(first if not number else ()), *later.get(index, ())))
        for number, (index, reverse) in enumerate(slices)
    ]


def order_slices(
    direction: Direction, first: list[int], later: list[int], count: int
) -> list[tuple[int, bool]]:
    """Return (slice, reverse) of every visit. first, later: slices with prompts of the submission, and added later."""
    match direction:
        case Direction.FORWARD:
            return [(index, False) for index in range(min(first + later), count)]
        case Direction.BACKWARD:
            return [(index, True) for index in range(max(first + later), -1, -1)]
        case Direction.BOTH:
            begin = min(first)
            forward = [(index, False) for index in range(begin, count)]
            return forward + [(index, True) for index in range(begin - 1, -1, -1)]


def count_kept_chunks(before: PropagationRequest, after: PropagationRequest, count: int) -> int:
    """Return how many chunks of a job stay as they are when its request changes from `before` to `after`.

    count: number of slices. Blocks.
    """
    pairs = zip(plan_visits(before, count), plan_visits(after, count), strict=False)
    equal_chunks = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs)) // VISITS_PER_CHUNK
    return equal_chunks - equal_chunks % CHUNKS_PER_KEPT_STATE[before.engine]
