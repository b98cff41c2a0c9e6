"""A burst of one client waits in line, and holds nobody else up."""

import asyncio
from collections.abc import Callable

from segserve.wire.http.fair_start import FairStart

BURST = 16


def create_starts() -> FairStart:
    return FairStart(BURST, 0.002)


def note(order: list[str], item: str) -> Callable[[], bool]:
    """Return a function that adds an item, as a request that begins."""

    def begin() -> bool:
        order.append(item)
        return True

    return begin


def end(done: asyncio.Event) -> Callable[[], bool]:
    def begin() -> bool:
        done.set()
        return True

    return begin


def test_a_burst_begins_at_once_and_the_rest_in_turn() -> None:
    async def run() -> None:
        starts, order, done = create_starts(), list[str](), asyncio.Event()
        for number in range(BURST + 3):
            starts.start("busy", note(order, f"busy {number}"))
        assert len(order) == BURST
        starts.start("calm", note(order, "calm"))
        starts.start(None, note(order, "proxy"))
        assert order[BURST:] == ["calm", "proxy"]
        starts.start("busy", end(done))
        await asyncio.wait_for(done.wait(), 60)
        assert order[BURST + 2 :] == [f"busy {BURST + i}" for i in range(3)]

    asyncio.run(run())


def test_two_bursts_take_turns() -> None:
    async def run() -> None:
        starts, order, done = create_starts(), list[str](), asyncio.Event()
        for client in ("a", "b"):
            for _ in range(BURST):
                starts.start(client, lambda: True)
        for client in ("a", "b"):
            for _ in range(3):
                starts.start(client, note(order, client))
        starts.start("b", end(done))
        await asyncio.wait_for(done.wait(), 60)
        assert order == ["a", "b", "a", "b", "a", "b"]

    asyncio.run(run())


def test_what_nobody_waits_for_any_more_takes_no_turn() -> None:
    async def run() -> None:
        starts, tried, done = FairStart(1, 1.0), list[int](), asyncio.Event()
        starts.start("busy", lambda: True)

        def gone() -> bool:
            tried.append(1)
            return False

        for _ in range(500):
            starts.start("busy", gone)
        starts.start("busy", end(done))
        await asyncio.wait_for(done.wait(), 60)
        assert len(tried) == 500

    asyncio.run(run())


def test_after_a_pause_a_client_begins_at_once_again() -> None:
    async def run() -> None:
        starts, order = create_starts(), list[str]()
        for _ in range(BURST):
            starts.start("busy", lambda: True)
        await asyncio.sleep(0.2)
        for number in range(BURST):
            starts.start("busy", note(order, str(number)))
        assert order == [str(number) for number in range(BURST)]

    asyncio.run(run())
