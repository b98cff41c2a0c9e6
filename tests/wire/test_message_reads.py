"""Messages of gRPC are received in turn: what is put together at the same time is bounded, for all and for a client."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from segserve.current_client import Client, current_client
from segserve.errors import Busy
from segserve.request_limits import RequestKind
from segserve.settings import Settings
from segserve.wire.grpc.message_reads import MessageReads

CLICK, UPLOAD = RequestKind.CLICK, RequestKind.UPLOAD


def test_a_client_receives_its_share_and_leaves_the_rest() -> None:
    """Four places of each kind, two of each client."""

    async def scenario() -> None:
        reads = MessageReads(Settings(body_memory_mb=256, max_request_mb=32), max_wait_s=60)
        received = list[str]()

        async def receive(client: str, end: asyncio.Event, kind: RequestKind = CLICK) -> None:
            current_client.set(Client("t", client))
            async with reads.place(kind):
                received.append(client)
                await end.wait()

        end = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(5):
                tasks.create_task(receive("busy", end))
            await asyncio.sleep(0.01)
            assert received == ["busy"] * 2
            tasks.create_task(receive("calm", end))
            tasks.create_task(receive("busy", end, UPLOAD))
            await asyncio.sleep(0.01)
            assert sorted(received) == ["busy"] * 3 + ["calm"]
            end.set()
        assert received.count("busy") == 6

    asyncio.run(scenario())


def test_who_waits_for_long_is_refused() -> None:
    async def scenario() -> None:
        reads = MessageReads(Settings(body_memory_mb=64, max_request_mb=32), max_wait_s=0.01)
        async with AsyncExitStack() as held:
            current_client.set(Client("t", "busy"))
            await held.enter_async_context(reads.place(CLICK))
            with pytest.raises(Busy):
                await held.enter_async_context(reads.place(CLICK))
            current_client.set(Client("t", "calm"))
            await held.enter_async_context(reads.place(CLICK))

    asyncio.run(scenario())
