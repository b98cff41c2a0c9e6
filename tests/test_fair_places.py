"""Clients wait in turn for places, and none of them holds more than its share."""

import asyncio

import pytest

from segserve.current_client import Client, current_client
from segserve.fair_places import FairPlaces


async def take(places: FairPlaces, client: str | None, end: asyncio.Event, holders: list[str | None]) -> None:
    current_client.set(Client("t", client))
    held_for = await places.acquire(60)
    holders.append(client)
    await end.wait()
    places.release(held_for)


def test_a_client_has_its_share_and_others_the_rest() -> None:
    async def scenario() -> None:
        places, end, holders = FairPlaces(4, 2), asyncio.Event(), list[str | None]()
        async with asyncio.TaskGroup() as tasks:
            for client in ("busy", "busy", "busy", "calm", None):
                tasks.create_task(take(places, client, end, holders))
            await asyncio.sleep(0.01)
            assert holders == ["busy", "busy", "calm", None]
            assert not places.has_free
            assert not places.has_share(Client("t", "busy"))
            assert places.has_share(Client("t", "calm"))
            assert places.has_share(Client("t", "new"))
            assert places.is_wanted(Client("t", "busy")), "its third piece of work waits"
            assert not places.is_wanted(Client("t", "calm")), "a place of another client would not help it"
            end.set()
        assert holders.count("busy") == 3
        assert places.has_free
        assert places.has_share(Client("t", "busy"))

    asyncio.run(scenario())


def test_who_gives_up_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        places = FairPlaces(1, 1)
        current_client.set(Client("t", "first"))
        held_for = await places.acquire(60)
        for client in ("first", "second", None):
            current_client.set(Client("t", client))
            with pytest.raises(TimeoutError):
                await places.acquire(0.01)
            waiting = asyncio.create_task(places.acquire(60))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        places.release(held_for)
        assert not places.is_wanted(Client("t", "first"))
        for client in ("first", "second", None):
            current_client.set(Client("t", client))
            places.release(await places.acquire(60))
        assert places.has_free

    asyncio.run(scenario())
