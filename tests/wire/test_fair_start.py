"""A burst of one client waits in line, and holds nobody else up."""

import asyncio

from segserve.wire.http.fair_start import BURST_REQUESTS, FairStart


def test_a_burst_begins_at_once_and_the_rest_in_turn() -> None:
    async def run() -> None:
        starts, order, done = FairStart(), list[str](), asyncio.Event()
        for number in range(BURST_REQUESTS + 3):
            starts.start("busy", lambda i=number: order.append(f"busy {i}"))
        assert len(order) == BURST_REQUESTS
        starts.start("calm", lambda: order.append("calm"))
        starts.start(None, lambda: order.append("proxy"))
        assert order[BURST_REQUESTS:] == ["calm", "proxy"]
        starts.start("busy", done.set)
        await asyncio.wait_for(done.wait(), 60)
        assert order[BURST_REQUESTS + 2 :] == [f"busy {BURST_REQUESTS + i}" for i in range(3)]

    asyncio.run(run())


def test_two_bursts_take_turns() -> None:
    async def run() -> None:
        starts, order, done = FairStart(), list[str](), asyncio.Event()
        for client in ("a", "b"):
            for _ in range(BURST_REQUESTS):
                starts.start(client, lambda: None)
        for client in ("a", "b"):
            for _ in range(3):
                starts.start(client, lambda c=client: order.append(c))
        starts.start("b", done.set)
        await asyncio.wait_for(done.wait(), 60)
        assert order == ["a", "b", "a", "b", "a", "b"]

    asyncio.run(run())


def test_after_a_pause_a_client_begins_at_once_again() -> None:
    async def run() -> None:
        starts, order = FairStart(), list[int]()
        for _ in range(BURST_REQUESTS):
            starts.start("busy", lambda: None)
        await asyncio.sleep(0.2)
        for number in range(BURST_REQUESTS):
            starts.start("busy", lambda i=number: order.append(i))
        assert order == list(range(BURST_REQUESTS))

    asyncio.run(run())
