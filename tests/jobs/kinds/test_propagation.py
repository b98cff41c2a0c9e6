"""Objects followed visit by visit, whatever the engine: chunks, restarts, and an end within one frame."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from segserve.files.file_view import FileView
from segserve.jobs.engine.job import Job, JobKind, JobState
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.stop_signal import JobStopped, StopSignal
from segserve.jobs.kinds.job_requests import EngineName, PromptOnSlice, PropagationRequest, RequestedObject
from segserve.jobs.kinds.propagation import ObjectOnSlice, OpenPropagationJob
from segserve.jobs.kinds.propagation_plan import (
    CHUNKS_PER_KEPT_STATE,
    VISITS_PER_CHUNK,
    MemoryVisit,
    count_kept_chunks,
    plan_memory_visits,
    plan_visits,
)
from segserve.masks import crop
from segserve.types import Direction, Priority, Select, Size

SIZE = Size(4, 6)


class Slices:
    count, size = 20, SIZE
    closed = False

    async def close(self) -> None:
        self.closed = True


class Counting:
    """An engine that remembers how often it was asked, and puts that into its masks."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.asked, self._stop_at = 0, stop_at

    async def visit(
        self, visit: MemoryVisit, ahead: Sequence[MemoryVisit], stop: StopSignal
    ) -> dict[int, ObjectOnSlice]:
        self.asked += 1
        if self.asked == self._stop_at:
            stop.set()
        mask = np.zeros((SIZE.height, SIZE.width), np.bool_)
        mask.flat[: self.asked] = True
        return {7: ObjectOnSlice(crop.from_mask(mask), 0.5)}

    def dump(self) -> bytes:
        return str(self.asked).encode()

    def load(self, dumped: bytes) -> None:
        self.asked = int(dumped)

    async def close(self) -> None: ...


class Past:
    def __init__(self) -> None:
        self.states: list[bytes | None] = []

    async def read_state(self, chunk: int) -> bytes | None:
        return self.states[chunk]


def request(
    direction: Direction, *prompts: tuple[int, int, int], engine: EngineName = EngineName.MEMORY
) -> PropagationRequest:
    """prompts: (object, slice, revision)."""
    objects: dict[int, list[PromptOnSlice]] = {}
    for object_id, at, revision in prompts:
        objects.setdefault(object_id, []).append(PromptOnSlice(slice=at, prompt={}, revision=revision))
    return PropagationRequest(
        model="m",
        digest="d",
        view=FileView("f"),
        engine=engine,
        direction=direction,
        objects=[RequestedObject(object_id=name, prompts=found) for name, found in objects.items()],
        select=Select.BEST,
    )


def opened(past: Past, engine: Counting) -> OpenPropagationJob:
    job = Job("t", "j", JobKind.VOLUME, Priority.BATCH, "m", JobState.RUNNING, 0.0)
    visits = plan_memory_visits(request(Direction.FORWARD, (7, 0, 0)), Slices.count)
    slices: Any = Slices()
    kept: Any = past
    return OpenPropagationJob(job, visits, engine, slices, kept, 1)


def run(past: Past, *, restart: bool) -> list[bytes]:
    async def story() -> list[bytes]:
        work, lines = opened(past, Counting()), list[bytes]()
        while (chunk := await work.run_chunk(len(past.states), StopSignal())) is not None:
            lines += chunk.lines
            past.states.append(chunk.state)
            if restart:
                work = opened(past, Counting())
        return lines

    return asyncio.run(story())


def test_a_line_a_slice_and_the_same_after_any_restart() -> None:
    lines = run(Past(), restart=False)
    assert [orjson.loads(line)["slice"] for line in lines] == list(range(20))
    assert [orjson.loads(line)["objects"][0]["area"] for line in lines] == list(range(1, 21))
    assert run(Past(), restart=True) == lines


def test_it_stops_within_one_slice() -> None:
    engine, stop = Counting(stop_at=3), StopSignal()

    async def story() -> Chunk | None:
        return await opened(Past(), engine).run_chunk(0, stop)

    with pytest.raises(JobStopped):
        asyncio.run(story())
    assert engine.asked == 3


@pytest.mark.parametrize(
    ("direction", "prompts", "expected"),
    [
        (Direction.FORWARD, [(1, 3, 0)], [3, 4, 5]),
        (Direction.BACKWARD, [(1, 3, 0)], [3, 2, 1, 0]),
        (Direction.BOTH, [(1, 3, 0), (2, 5, 0)], [3, 4, 5, 2, 1, 0]),
        (Direction.FORWARD, [(1, 3, 0), (2, 1, 1)], [1, 2, 3, 4, 5]),
        (Direction.BOTH, [(1, 3, 0), (2, 1, 1)], [3, 4, 5, 2, 1, 0]),
    ],
)
def test_the_way_of_the_memory(
    direction: Direction, prompts: list[tuple[int, int, int]], expected: list[int]
) -> None:
    assert [visit.slice for visit in plan_memory_visits(request(direction, *prompts), 6)] == expected


def test_what_was_asked_first_is_remembered_first_and_what_came_later_in_its_place() -> None:
    visits = plan_memory_visits(request(Direction.FORWARD, (1, 0, 0), (2, 4, 0), (1, 3, 1)), 6)
    assert {visit.slice: visit.prompts for visit in visits if visit.prompts} == {
        0: ((1, 0, 0), (2, 4, 0)),
        3: ((1, 3, 1),),
    }


@pytest.mark.parametrize("engine", list(EngineName))
def test_chunks_before_what_was_added_are_kept(engine: EngineName) -> None:
    before = [(1, 0, 0)]
    for at in (1, VISITS_PER_CHUNK, 3 * VISITS_PER_CHUNK + 2):
        asked, more = (
            request(Direction.FORWARD, *prompts, engine=engine) for prompts in (before, [*before, (2, at, 1)])
        )
        every = CHUNKS_PER_KEPT_STATE[engine]
        assert count_kept_chunks(asked, more, 40) == at // VISITS_PER_CHUNK // every * every
        assert plan_visits(asked, 40)[:at] == plan_visits(more, 40)[:at]
    same = request(Direction.FORWARD, *before, engine=engine)
    assert count_kept_chunks(same, same, 640) == 640 // VISITS_PER_CHUNK
