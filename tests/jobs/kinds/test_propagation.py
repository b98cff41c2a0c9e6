"""Objects followed visit by visit, whatever the engine: chunks, restarts, and an end within one frame."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from segserve.files.file_view import View
from segserve.jobs.engine.chunked_work import Chunk, Stop, Stopped
from segserve.jobs.engine.job import Job, Kind, State
from segserve.jobs.kinds.job_requests import Engine, FollowRequest, ObjectAsked, PromptAt
from segserve.jobs.kinds.propagation import OpenedFollowing, Seen
from segserve.jobs.kinds.propagation_plan import CHUNK, KEPT_STATES, Remembered, kept_chunks, plan, remembered
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

    async def visit(self, visit: Remembered, ahead: Sequence[Remembered], stop: Stop) -> dict[int, Seen]:
        self.asked += 1
        if self.asked == self._stop_at:
            stop.tell()
        mask = np.zeros((SIZE.height, SIZE.width), np.bool_)
        mask.flat[: self.asked] = True
        return {7: Seen(crop.from_mask(mask), 0.5)}

    def dump(self) -> bytes:
        return str(self.asked).encode()

    def load(self, dumped: bytes) -> None:
        self.asked = int(dumped)

    async def close(self) -> None: ...


class Past:
    def __init__(self) -> None:
        self.states: list[bytes | None] = []

    async def state(self, chunk: int) -> bytes | None:
        return self.states[chunk]


def request(
    direction: Direction, *prompts: tuple[int, int, int], engine: Engine = Engine.MEMORY
) -> FollowRequest:
    """prompts: (object, slice, revision)."""
    objects: dict[int, list[PromptAt]] = {}
    for object_id, at, revision in prompts:
        objects.setdefault(object_id, []).append(PromptAt(slice=at, prompt={}, revision=revision))
    return FollowRequest(
        model="m",
        digest="d",
        view=View("f"),
        engine=engine,
        direction=direction,
        objects=[ObjectAsked(object_id=name, prompts=found) for name, found in objects.items()],
        select=Select.BEST,
    )


def opened(past: Past, engine: Counting) -> OpenedFollowing:
    job = Job("t", "j", Kind.VOLUME, Priority.BATCH, "m", State.RUNNING, 0.0)
    visits = remembered(request(Direction.FORWARD, (7, 0, 0)), Slices.count)
    slices: Any = Slices()
    kept: Any = past
    return OpenedFollowing(job, visits, engine, slices, kept, 1)


def run(past: Past, *, restart: bool) -> list[bytes]:
    async def story() -> list[bytes]:
        work, lines = opened(past, Counting()), list[bytes]()
        while (chunk := await work.chunk(len(past.states), Stop())) is not None:
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
    engine, stop = Counting(stop_at=3), Stop()

    async def story() -> Chunk | None:
        return await opened(Past(), engine).chunk(0, stop)

    with pytest.raises(Stopped):
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
    assert [visit.slice for visit in remembered(request(direction, *prompts), 6)] == expected


def test_what_was_asked_first_is_remembered_first_and_what_came_later_in_its_place() -> None:
    visits = remembered(request(Direction.FORWARD, (1, 0, 0), (2, 4, 0), (1, 3, 1)), 6)
    assert {visit.slice: visit.prompts for visit in visits if visit.prompts} == {
        0: ((1, 0, 0), (2, 4, 0)),
        3: ((1, 3, 1),),
    }


@pytest.mark.parametrize("engine", list(Engine))
def test_chunks_before_what_was_added_are_kept(engine: Engine) -> None:
    before = [(1, 0, 0)]
    for at in (1, CHUNK, 3 * CHUNK + 2):
        asked, more = (
            request(Direction.FORWARD, *prompts, engine=engine) for prompts in (before, [*before, (2, at, 1)])
        )
        every = KEPT_STATES[engine]
        assert kept_chunks(asked, more, 40) == at // CHUNK // every * every
        assert plan(asked, 40)[:at] == plan(more, 40)[:at]
    same = request(Direction.FORWARD, *before, engine=engine)
    assert kept_chunks(same, same, 640) == 640 // CHUNK
