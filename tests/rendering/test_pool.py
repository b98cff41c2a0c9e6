"""The rendering pool: work in threads ends with the caller who needs it."""

import asyncio
import threading
from collections.abc import Generator

import pytest

from segserve.current_client import Client, current_client
from segserve.errors import BadInput, Busy
from segserve.rendering.pool import SENT_BYTES, RenderingPool


def test_parts_come_in_order_and_empty_ones_do_not() -> None:
    async def scenario() -> None:
        pool = RenderingPool(1, 4)
        received = [part async for part in pool.stream(part for part in (b"a", b"", b"b", b"", b""))]
        assert all(received)
        assert b"".join(received) == b"ab"
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


def test_a_caller_who_reads_slowly_holds_only_a_file() -> None:
    """Everything is made, and the generator gone, before the second part is asked for."""
    closed, content = threading.Event(), [bytes([number]) * 300_000 for number in range(20)]

    def make() -> Generator[bytes]:
        try:
            yield from content
        finally:
            closed.set()

    async def scenario() -> None:
        pool = RenderingPool(1, 1)
        parts = pool.stream(make())
        received = await anext(parts)
        assert await asyncio.to_thread(closed.wait, 60)
        async for part in parts:
            assert len(part) <= SENT_BYTES
            received += part
        assert received == b"".join(content)
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


def test_one_client_leaves_slots_to_others() -> None:
    pool = RenderingPool(1, 4, max_client_streams=1)
    try:
        current_client.set(Client("t", "busy"))
        with pool.slot(), pytest.raises(Busy, match="one address"), pool.slot():
            pass
        with pool.slot():
            current_client.set(Client("t", "calm"))
            with pool.slot():
                pass
    finally:
        current_client.set(Client())
    pool.close()
