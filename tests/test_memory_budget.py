"""A memory budget is never exceeded, lets nobody starve, and gives back what cancelled callers held."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from segserve.errors import Busy, TooLarge
from segserve.memory_budget import MemoryBudget

# Small work takes up to 100 of 400 bytes, large work up to 1200.
TOTAL = 1600


def run_scenario(
    scenario: Callable[[MemoryBudget], Awaitable[None]],
    max_wait_s: float = 60,
    refused: list[int] | None = None,
) -> None:
    async def run() -> None:
        on_refused = None if refused is None else lambda: refused.append(1)
        budget = MemoryBudget(TOTAL, "THE_SETTING", max_wait_s=max_wait_s, on_refused=on_refused)
        await scenario(budget)
        assert budget.held_bytes == 0

    asyncio.run(run())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_work_that_never_fits_is_refused_by_name_of_the_setting() -> None:
    async def scenario(budget: MemoryBudget) -> None:
        async with budget.hold(budget.max_bytes):
            pass
        with pytest.raises(TooLarge, match="THE_SETTING") as refusal:
            async with budget.hold(budget.max_bytes + 1, "image_id"):
                raise AssertionError
        assert refusal.value.field == "image_id"

    run_scenario(scenario)


def test_the_budget_is_never_exceeded() -> None:
    async def scenario(budget: MemoryBudget) -> None:
        most = 0

        async def work(needed_bytes: int) -> None:
            nonlocal most
            async with budget.hold(needed_bytes):
                most = max(most, budget.held_bytes)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(1 + 37 * number % 1200) for number in range(300)))
        assert TOTAL / 2 < most <= TOTAL

    run_scenario(scenario)


def test_large_work_is_not_starved_by_what_comes_after_it() -> None:
    async def scenario(budget: MemoryBudget) -> None:
        order = []

        async def work(name: str, needed_bytes: int) -> None:
            async with budget.hold(needed_bytes):
                order.append(name)

        release = await budget.acquire(400)
        large = asyncio.create_task(work("large", 1200))
        await settle()
        later = [asyncio.create_task(work("later", 200)) for _ in range(9)]
        await settle()
        assert order == []  # 200 would fit, but came later
        release()
        await asyncio.gather(large, *later)
        assert order[0] == "large"

    run_scenario(scenario)


def test_small_work_does_not_wait_for_large_work() -> None:
    async def scenario(budget: MemoryBudget) -> None:
        async with budget.hold(1200):
            waiting = asyncio.create_task(budget.acquire(1200))
            await settle()
            async with budget.hold(100), budget.hold(100), budget.hold(100), budget.hold(100):
                assert budget.held_bytes == TOTAL
        (await waiting)()

    run_scenario(scenario)


def test_who_waits_too_long_is_told_to_come_back() -> None:
    refused: list[int] = []

    async def scenario(budget: MemoryBudget) -> None:
        async with budget.hold(1200):
            with pytest.raises(Busy) as refusal:
                await budget.acquire(500)
            assert refusal.value.retry_after_s > 0
        async with budget.hold(1200):  # the place in the queue is free again
            pass

    run_scenario(scenario, max_wait_s=0.01, refused=refused)
    assert refused == [1]


def test_a_caller_that_goes_while_it_waits_leaves_no_hole() -> None:
    async def scenario(budget: MemoryBudget) -> None:
        release = await budget.acquire(1200)
        gone, next_one = (asyncio.create_task(budget.acquire(700)) for _ in range(2))
        await settle()
        gone.cancel()
        await settle()
        release()
        (await next_one)()
        # Cancelled in the same moment in which it is granted.
        release = await budget.acquire(1200)
        gone = asyncio.create_task(budget.acquire(700))
        await settle()
        release()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone

    run_scenario(scenario)


def test_bytes_stay_held_until_the_thread_has_ended() -> None:
    async def scenario(budget: MemoryBudget) -> None:
        begun, may_end = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            assert may_end.wait(60)

        with ThreadPoolExecutor(1) as executor:
            running = asyncio.create_task(budget.run(500, executor, work))
            queued = asyncio.create_task(budget.run(600, executor, work))
            assert await asyncio.to_thread(begun.wait, 60)
            for task in (running, queued):
                task.cancel()
            await asyncio.wait([running, queued])
            await settle()
            assert budget.held_bytes == 500  # the queued one never began
            may_end.set()
            while budget.held_bytes:
                await asyncio.sleep(0.01)
            assert await budget.run(500, executor, lambda: 7) == 7
            await settle()

    run_scenario(scenario)


def test_an_error_in_the_thread_gives_the_bytes_back() -> None:
    async def scenario(budget: MemoryBudget) -> None:
        with ThreadPoolExecutor(1) as executor, pytest.raises(ZeroDivisionError):
            await budget.run(500, executor, lambda: 1 / 0)
        await settle()
        with ThreadPoolExecutor(1) as executor:
            executor.shutdown()
            with pytest.raises(RuntimeError):
                await budget.run(500, executor, lambda: 7)

    run_scenario(scenario)
