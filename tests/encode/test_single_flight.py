"""Of all replicas that want the same thing, one makes it: over a real Redis, each replica with its own client."""

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
    """made: shared by all, as Redis is; the value that look finds."""

    def __init__(self, url: str, made: dict[str, int], *, deaf: bool = False) -> None:
        self.cache = RedisCache(url, 2, 60, 60)
        self.flights = SingleFlight(self.cache)
        self.made, self.deaf, self.makes = made, deaf, 0

    async def listen(self) -> None:
        async for notice in self.cache.listen():
            if isinstance(notice, EmbeddingReady):
                self.flights.wake(notice.key)

    async def want(self, seconds: float = 0.2, error: Exception | None = None) -> int:
        async def look() -> int | None:
            return self.made.get(KEY)

        async def make() -> int:
            self.makes += 1
            await asyncio.sleep(seconds)
            if error is not None:
                raise error
            self.made[KEY] = 7
            return 7

        return await self.flights.run_once(KEY, look, make, Timings())


def story(
    redis: ExternalRedis, tell: Callable[[list[Replica]], Awaitable[None]], *, deaf: bool = False
) -> None:
    async def run() -> None:
        made: dict[str, int] = {}
        replicas = [Replica(redis.url, made) for _ in range(4)]
        listeners = [] if deaf else [asyncio.create_task(r.listen()) for r in replicas]
        await asyncio.wait_for(tell(replicas), 60)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        for replica in replicas:
            await replica.cache.close()

    asyncio.run(run())


@pytest.mark.parametrize("deaf", [False, True], ids=["noticed", "polled"])
def test_one_makes_it_for_all(redis: ExternalRedis, deaf: bool) -> None:
    async def tell(replicas: list[Replica]) -> None:
        assert await asyncio.gather(*(r.want() for r in replicas)) == [7] * 4
        assert sum(r.makes for r in replicas) == 1

    story(redis, tell, deaf=deaf)


def test_a_long_flight_keeps_its_lead(redis: ExternalRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "LEAD_S", 0.3)

    async def tell(replicas: list[Replica]) -> None:
        assert await asyncio.gather(*(r.want(seconds=1.5) for r in replicas)) == [7] * 4
        assert sum(r.makes for r in replicas) == 1

    story(redis, tell)


def test_a_dead_leader_is_followed_by_another(redis: ExternalRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "LEAD_S", 0.5)

    async def tell(replicas: list[Replica]) -> None:
        assert await replicas[0].cache.acquire_lead(KEY, "of one that died", 0.5)
        assert await asyncio.gather(*(r.want() for r in replicas[1:])) == [7] * 3
        assert sum(r.makes for r in replicas) == 1

    story(redis, tell)


def test_a_leader_that_fails_leaves_it_to_the_next(redis: ExternalRedis) -> None:
    async def tell(replicas: list[Replica]) -> None:
        failing = asyncio.create_task(replicas[0].want(error=BadInput("broken")))
        await asyncio.sleep(0.05)
        assert await replicas[1].want() == 7
        with pytest.raises(BadInput):
            await failing

    story(redis, tell)


def test_nobody_releases_the_lead_of_another(redis: ExternalRedis) -> None:
    async def tell(replicas: list[Replica]) -> None:
        cache = replicas[0].cache
        assert await cache.acquire_lead(KEY, "a", 5)
        await cache.release_lead(KEY, "b")
        assert not await cache.acquire_lead(KEY, "b", 5)
        assert await cache.acquire_lead(KEY, "a", 5), "its own is renewed"
        await cache.release_lead(KEY, "a")
        assert await cache.acquire_lead(KEY, "b", 5)

    story(redis, tell)
