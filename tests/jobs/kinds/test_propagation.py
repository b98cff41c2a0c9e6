"""Objects are propagated visit by visit, by either engine: chunks, restarts, and a stop within one frame."""

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
from segserve.jobs.kinds.propagation import ObjectOnSlice, OpenPropagationJob, VisitResult
from segserve.jobs.kinds.propagation_plan import (
    CHUNKS_PER_KEPT_STATE,
    VISITS_PER_CHUNK,
    MemoryVisit,
    count_kept_chunks,
    plan_memory_visits,
    plan_visits,
)
from segserve.masks import crop
from segserve.types import Direction, LossReason, ObjectEnd, Priority, Select, Size

SIZE = Size(4, 6)


class Slices:
    count, size = 20, SIZE
    closed = False

    async def close(self) -> None:
        self.closed = True


class CountingEngine:
    """`CountingEngine` counts its visits; the mask of a visit has as many pixels."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.visits, self._stop_at = 0, stop_at

    async def visit(self, visit: MemoryVisit, ahead: Sequence[MemoryVisit], stop: StopSignal) -> VisitResult:
        self.visits += 1
        if self.visits == self._stop_at:
            stop.set()
        mask = np.zeros((SIZE.height, SIZE.width), np.bool_)
        mask.flat[: self.visits] = True
        ends = [ObjectEnd(8, visit.slice, None, LossReason.EMPTY)] if self.visits in (3, 12) else []
        return VisitResult({7: ObjectOnSlice(crop.from_mask(mask), 0.5)}, ends)

    def dump(self) -> bytes:
        return str(self.visits).encode()

    def load(self, dumped: bytes) -> None:
        self.visits = int(dumped)

    async def close(self) -> None: ...


class StoredStates:
    def __init__(self) -> None:
        self.states: list[bytes | None] = []

    async def read_state(self, chunk: int) -> bytes | None:
        return self.states[chunk]


def make_request(
    direction: Direction, *prompts: tuple[int, int, int], engine: EngineName = EngineName.MEMORY
) -> PropagationRequest:
    """prompts: (object, slice, revision)."""
    objects: dict[int, list[PromptOnSlice]] = {}
    for object_id, index, revision in prompts:
        objects.setdefault(object_id, []).append(PromptOnSlice(slice=index, prompt={}, revision=revision))
    return PropagationRequest(
        model="m",
        digest="d",
        view=FileView("f"),
        engine=engine,
        direction=direction,
        objects=[RequestedObject(object_id=object_id, prompts=items) for object_id, items in objects.items()],
        select=Select.BEST,
    )


def open_job(past: StoredStates, engine: CountingEngine) -> OpenPropagationJob:
    job = Job("t", "j", JobKind.VOLUME, Priority.BATCH, "m", JobState.RUNNING, 0.0)
    visits = plan_memory_visits(make_request(Direction.FORWARD, (7, 0, 0)), Slices.count)
    slices: Any = Slices()
    states: Any = past
    return OpenPropagationJob(job, visits, engine, slices, states, 1)


def run_all_chunks(past: StoredStates, *, restart: bool) -> list[bytes]:
    async def story() -> list[bytes]:
        work, lines = open_job(past, CountingEngine()), list[bytes]()
        while (chunk := await work.run_chunk(len(past.states), StopSignal())) is not None:
            lines += chunk.lines
            past.states.append(chunk.state)
            if restart:
                work = open_job(past, CountingEngine())
        return lines

    return asyncio.run(story())


def test_every_slice_has_a_line_and_a_restart_changes_none() -> None:
    lines = run_all_chunks(StoredStates(), restart=False)
    assert [orjson.loads(line)["slice"] for line in lines] == list(range(20))
    assert [orjson.loads(line)["objects"][0]["area"] for line in lines] == list(range(1, 21))
    assert run_all_chunks(StoredStates(), restart=True) == lines


def test_ends_are_told_in_the_line_of_their_slice_and_with_the_chunk() -> None:
    async def story() -> list[Chunk]:
        work, chunks = open_job(StoredStates(), CountingEngine()), list[Chunk]()
        while (chunk := await work.run_chunk(len(chunks), StopSignal())) is not None:
            chunks.append(chunk)
        return chunks

    chunks = asyncio.run(story())
    lines = [orjson.loads(line) for chunk in chunks for line in chunk.lines]
    assert {line["slice"]: line["ends"] for line in lines if "ends" in line} == {
        index: [{"object_id": 8, "slice": index, "last_slice": None, "reason": "empty"}] for index in (2, 11)
    }
    assert [[end.frame for end in chunk.ends] for chunk in chunks] == [[2], [11], []]


def test_a_stopped_job_stops_within_one_slice() -> None:
    engine, stop = CountingEngine(stop_at=3), StopSignal()

    async def story() -> Chunk | None:
        return await open_job(StoredStates(), engine).run_chunk(0, stop)

    with pytest.raises(JobStopped):
        asyncio.run(story())
    assert engine.visits == 3


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
def test_the_memory_engine_visits_slices_in_the_requested_direction(
    direction: Direction, prompts: list[tuple[int, int, int]], expected: list[int]
) -> None:
    assert [visit.slice for visit in plan_memory_visits(make_request(direction, *prompts), 6)] == expected


def test_first_prompts_are_added_at_once_and_later_ones_on_their_slice() -> None:
    visits = plan_memory_visits(make_request(Direction.FORWARD, (1, 0, 0), (2, 4, 0), (1, 3, 1)), 6)
    assert {visit.slice: visit.prompts for visit in visits if visit.prompts} == {
        0: ((1, 0, 0), (2, 4, 0)),
        3: ((1, 3, 1),),
    }


@pytest.mark.parametrize("engine", list(EngineName))
def test_chunks_before_an_added_prompt_are_kept(engine: EngineName) -> None:
    first = [(1, 0, 0)]
    for index in (1, VISITS_PER_CHUNK, 3 * VISITS_PER_CHUNK + 2):
        before, after = (
            make_request(Direction.FORWARD, *prompts, engine=engine)
            for prompts in (first, [*first, (2, index, 1)])
        )
        every = CHUNKS_PER_KEPT_STATE[engine]
        assert count_kept_chunks(before, after, 40) == index // VISITS_PER_CHUNK // every * every
        assert plan_visits(before, 40)[:index] == plan_visits(after, 40)[:index]
    same = make_request(Direction.FORWARD, *first, engine=engine)
    assert count_kept_chunks(same, same, 640) == 640 // VISITS_PER_CHUNK
