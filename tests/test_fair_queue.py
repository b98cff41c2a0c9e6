"""Clients take turns in a queue, and for the units of a semaphore."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from segserve.current_client import Client, current_client
from segserve.fair_queue import FairQueue
from segserve.fair_semaphore import FairSemaphore

BUSY, CALM, JOB = Client("t", "busy"), Client("t", "calm"), Client("t")


def create_queue() -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for number in range(4):
        queue.put(BUSY, number)
    queue.put(CALM, 10)
    queue.put(JOB, 20)
    return queue


def test_one_item_of_each_client_in_turn() -> None:
    queue, order = create_queue(), list[int]()
    assert (len(queue), queue.count(BUSY), queue.count(Client("t", "nobody"))) == (6, 4, 0)
    while queue:
        order.append(queue.peek()[1])
        assert queue.pop() == order[-1]
    assert order == [0, 10, 20, 1, 2, 3]
    with pytest.raises(KeyError):
        queue.pop()


def test_what_is_removed_has_no_turn() -> None:
    queue = create_queue()
    queue.remove(BUSY, 0)
    queue.remove(CALM, 10)
    assert 10 not in queue
    with pytest.raises(KeyError):
        queue.remove(CALM, 10)
    assert [queue.pop() for _ in range(4)] == [1, 20, 2, 3]


def take_all(queue: FairQueue[str]) -> list[str]:
    return [queue.pop() for _ in range(len(queue))]


def test_tenants_take_turns_however_many_clients_they_have() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(4):
        queue.put(Client("flood", f"client {number % 2}"), f"flood {number}")
    queue.put(Client("calm", "client 0"), "calm 0")
    queue.put(Client("calm", "client 0"), "calm 1")
    assert (queue.count_tenant("flood"), queue.count_tenant("calm"), queue.count_tenant("other")) == (4, 2, 0)
    assert take_all(queue) == ["flood 0", "calm 0", "flood 1", "calm 1", "flood 2", "flood 3"]


def test_a_tenant_that_comes_while_others_wait_is_first_and_cannot_keep_them_waiting_by_it() -> None:
    queue: FairQueue[str] = FairQueue()
    flood, calm = Client("flood", "x"), Client("calm", "y")
    for number in range(6):
        queue.put(flood, f"flood {number}")
    assert queue.pop() == "flood 0"
    queue.put(calm, "calm")
    assert queue.pop() == "calm", "before five of the flood"
    queue.put(calm, "calm again")
    assert queue.pop() == "flood 1", "in turn: it had its own just before"
    assert queue.pop() == "calm again"
    assert [queue.pop(), queue.pop()] == ["flood 2", "flood 3"]
    queue.put(calm, "calm after a pause")
    assert take_all(queue) == ["calm after a pause", "flood 4", "flood 5"]


def test_a_tenant_whose_last_item_was_just_taken_is_not_new() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put(Client("flood", "x"), "flood 0")
    assert queue.pop() == "flood 0"
    queue.put(Client("flood", "x"), "flood 1")
    queue.put(Client("calm", "x"), "calm")
    assert list(queue.tenants()) == ["calm", "flood"]
    assert take_all(queue) == ["calm", "flood 1"]


def test_the_first_that_matches_by_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for tenant, item in (("a", "ant"), ("a", "bee"), ("b", "bear"), ("b", "ape")):
        queue.put(Client(tenant, "x"), item)
    assert queue.pop_where(lambda item: item.startswith("b")) == "bee"
    assert queue.pop_where(lambda item: item.startswith("b")) == "bear"
    assert queue.pop_where(lambda item: item.startswith("b")) is None
    assert take_all(queue) == ["ant", "ape"]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run_in_time() -> None:
        await asyncio.wait_for(scenario(), 60)

    asyncio.run(run_in_time())


def test_clients_take_turns_for_units() -> None:
    async def scenario() -> None:
        semaphore, order = FairSemaphore(1), list[str]()

        async def work(client: str) -> None:
            current_client.set(Client("t", client))
            await semaphore.acquire(1, 60)
            order.append(client)
            await asyncio.sleep(0)
            semaphore.release(1)

        await asyncio.gather(*(work(client) for client in ("a", "a", "a", "b", "c")))
        assert order == ["a", "a", "b", "c", "a"]
        assert semaphore.free == 1

    run(scenario)


def test_who_waits_no_longer_takes_nothing() -> None:
    async def scenario() -> None:
        semaphore = FairSemaphore(4)
        await semaphore.acquire(3, 60)
        large = asyncio.create_task(semaphore.acquire(4, 60))
        small = asyncio.create_task(semaphore.acquire(1, 60))
        await asyncio.sleep(0)
        assert not small.done(), "it would fit, but the large one came first"
        large.cancel()
        await small
        with pytest.raises(TimeoutError):
            await semaphore.acquire(1, 0.01)
        semaphore.release(4)
        assert semaphore.free == 4

    run(scenario)


def test_who_is_cancelled_in_the_same_moment_takes_nothing() -> None:
    """Calls that a client ends together: one gives back its unit before the others have run."""

    async def scenario() -> None:
        semaphore = FairSemaphore(1)
        await semaphore.acquire(1, 60)
        cancelled = [asyncio.create_task(semaphore.acquire(1, 60)) for _ in range(3)]
        waiting = asyncio.create_task(semaphore.acquire(1, 60))
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        semaphore.release(1)
        await waiting
        for task in cancelled:
            with pytest.raises(asyncio.CancelledError):
                await task
        semaphore.release(1)
        assert semaphore.free == 1

    run(scenario)
