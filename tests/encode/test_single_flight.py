"""Of all replicas that need the same value, one computes it. A real Redis; each replica has its own client."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from segserve.encode import single_flight
from segserve.encode.single_flight import SingleFlight
from segserve.errors import BadInput
from segserve.store.redis_cache import EmbeddingReady, RedisCache
from segserve.timing import Timings
from tests.conftest import ExternalRedis

KEY = "k"


class Replica:
    """values: shared by all replicas, as Redis is. hears_nothing: no notices reach this replica."""

    def __init__(self, url: str, values: dict[str, int], *, hears_nothing: bool = False) -> None:
        self.cache = RedisCache(url, 2, 60, 60)
        self.single_flight = SingleFlight(self.cache)
        self.values, self.hears_nothing, self.computed = values, hears_nothing, 0

    async def listen(self) -> None:
        async for notice in self.cache.listen():
            if isinstance(notice, EmbeddingReady):
                self.single_flight.wake(notice.key)

    async def get(self, seconds: float = 0.2, error: Exception | None = None) -> int:
        async def find() -> int | None:
            return self.values.get(KEY)

        async def compute() -> int:
            self.computed += 1
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
            self.values[KEY] = 7
            return 7

        return await self.single_flight.run_once(KEY, find, compute, Timings())


def run_steps(
    redis: ExternalRedis, steps: Callable[[list[Replica]], Awaitable[None]], *, hears_nothing: bool = False
) -> None:
    async def run() -> None:
        values: dict[str, int] = {}
        replicas = [Replica(redis.url, values) for _ in range(4)]
        listeners = [] if hears_nothing else [asyncio.create_task(r.listen()) for r in replicas]
        await asyncio.wait_for(steps(replicas), 60)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        for replica in replicas:
            await replica.cache.close()

    asyncio.run(run())


@pytest.mark.parametrize("hears_nothing", [False, True], ids=["noticed", "polled"])
def test_one_replica_computes_it_for_all(redis: ExternalRedis, hears_nothing: bool) -> None:
    async def steps(replicas: list[Replica]) -> None:
        assert await asyncio.gather(*(r.get() for r in replicas)) == [7] * 4
        assert sum(r.computed for r in replicas) == 1

    run_steps(redis, steps, hears_nothing=hears_nothing)


def test_a_long_flight_keeps_its_lead(redis: ExternalRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "LEAD_S", 0.3)

    async def steps(replicas: list[Replica]) -> None:
        assert await asyncio.gather(*(r.get(seconds=1.5) for r in replicas)) == [7] * 4
        assert sum(r.computed for r in replicas) == 1

    run_steps(redis, steps)


def test_a_dead_leader_is_followed_by_another(redis: ExternalRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "LEAD_S", 0.5)

    async def steps(replicas: list[Replica]) -> None:
        assert await replicas[0].cache.acquire_lead(KEY, "of one that died", 0.5)
        assert await asyncio.gather(*(r.get() for r in replicas[1:])) == [7] * 3
        assert sum(r.computed for r in replicas) == 1

    run_steps(redis, steps)


def test_a_leader_that_fails_leaves_it_to_the_next(redis: ExternalRedis) -> None:
    async def steps(replicas: list[Replica]) -> None:
        failing = asyncio.create_task(replicas[0].get(error=BadInput("broken")))
        await asyncio.sleep(0.05)
        assert await replicas[1].get() == 7
        with pytest.raises(BadInput):
            await failing

    run_steps(redis, steps)


def test_nobody_releases_the_lead_of_another(redis: ExternalRedis) -> None:
    async def steps(replicas: list[Replica]) -> None:
        cache = replicas[0].cache
        assert await cache.acquire_lead(KEY, "a", 5)
        await cache.release_lead(KEY, "b")
        assert not await cache.acquire_lead(KEY, "b", 5)
        assert await cache.acquire_lead(KEY, "a", 5), "its own is renewed"
        await cache.release_lead(KEY, "a")
        assert await cache.acquire_lead(KEY, "b", 5)

    run_steps(redis, steps)
