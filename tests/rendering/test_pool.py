"""The rendering pool: work in threads ends with the caller who needs it."""

import asyncio
import threading
from collections.abc import Generator

import pytest

from segserve.errors import BadInput, Busy
from segserve.rendering.pool import RenderingPool


def test_parts_come_in_order_and_empty_ones_do_not() -> None:
    async def scenario() -> None:
        pool = RenderingPool(1, 4)
        assert [part async for part in pool.stream(part for part in (b"a", b"", b"b", b"", b""))] == [
            b"a",
            b"b",
        ]
        pool.close()

    asyncio.run(scenario())


def test_errors_reach_the_caller() -> None:
    def failing() -> Generator[bytes]:
        yield b"a"
        raise BadInput("no")

    async def scenario() -> None:
        pool = RenderingPool(1, 1)
        for _ in range(3):
            parts = pool.stream(failing())
            assert await anext(parts) == b"a"
            with pytest.raises(BadInput, match="no"):
                await anext(parts)
        pool.close()

    asyncio.run(scenario())


def test_a_caller_who_goes_away_while_a_part_is_made_leaves_nothing_open() -> None:
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Generator[bytes]:
        try:
            begun.set()
            go_on.wait()
            yield b"a"
        finally:
            closed.set()

    async def scenario() -> None:
        pool = RenderingPool(2, 1)
        caller = asyncio.create_task(anext(pool.stream(slow())))  # type: ignore[arg-type]
        await asyncio.to_thread(begun.wait)
        caller.cancel()
        await asyncio.sleep(0)
        assert not closed.is_set(), "it still runs"
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert closed.is_set()
        assert [part async for part in pool.stream(part for part in [b"x"])] == [b"x"]
        pool.close()

    asyncio.run(scenario())


def test_more_results_than_slots_are_refused_at_once() -> None:
    pool = RenderingPool(1, 1)
    with pool.slot(), pytest.raises(Busy), pool.slot():
        pass
    with pool.slot():
        pass
    pool.close()
