"""Rates of requests: counts that replicas share, tokens that a replica takes ahead, and what happens without Redis."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from limits import RateLimitItem, parse
from limits.limits import RateLimitItemPerSecond

from segserve.errors import BadInput, RateLimited
from segserve.identity.identity import LOCAL_IDENTITY, Identity
from segserve.metrics import Metrics
from segserve.request_limits import RequestKind
from segserve.request_rates import RequestRates, SharedRate
from segserve.settings import Settings, load_settings
from segserve.store.rate_counts import RedisRateCounts
from segserve.types import AccessRole
from tests.conftest import ExternalRedis

ANNOTATOR = Identity("hospital", AccessRole.ANNOTATOR, "anna")
BATCH = Identity("hospital", AccessRole.BATCH, "nightly")


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExternalRedis]:
    started = ExternalRedis(tmp_path_factory.mktemp("r"))
    yield started
    started.kill()


def with_replicas(
    redis: ExternalRedis, count: int, story: Callable[[list[RedisRateCounts]], Awaitable[None]]
) -> None:
    async def run() -> None:
        replicas = [RedisRateCounts(redis.url, 2.0) for _ in range(count)]
        try:
            await story(replicas)
        finally:
            for replica in replicas:
                await replica.close()

    asyncio.run(run())


async def take(rate: SharedRate, key: str, count: int) -> int:
    """Return how many of so many requests, one after the other, are let through."""
    return sum([await rate.take(key) is not None for _ in range(count)])


@pytest.mark.parametrize(("text", "unused"), [("6/day", 0), ("100/day", 2 * 5)])
def test_replicas_share_a_rate(shared_redis: ExternalRedis, text: str, unused: int) -> None:
    async def story(replicas: list[RedisRateCounts]) -> None:
        rate = parse(text)
        first, second = (SharedRate("clicks", rate, counts) for counts in replicas)
        done = await take(first, "a key", rate.amount // 2)
        done += await take(second, "a key", 2 * rate.amount)
        done += await take(first, "a key", rate.amount)
        assert rate.amount - unused <= done <= rate.amount
        assert await take(first, "another key", 1) == 1

    with_replicas(shared_redis, 2, story)


def test_requests_at_once_share_what_is_taken(shared_redis: ExternalRedis) -> None:
    async def story(replicas: list[RedisRateCounts]) -> None:
        rate = SharedRate("clicks", parse("80/day"), replicas[0])
        answers = await asyncio.gather(*(rate.take("together") for _ in range(120)))
        assert 76 <= sum(answer is not None for answer in answers) <= 80

    with_replicas(shared_redis, 1, story)


class CountedAsks:
    """Counts that are never reached, and that count how often they are asked."""

    def __init__(self) -> None:
        self.hits = 0
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def hit(self, rate: RateLimitItem, key: str, cost: int) -> bool:
        self.hits += 1
        await self.is_open.wait()
        return True

    async def look(self, rate: RateLimitItem, key: str) -> tuple[int, float]:
        return 10, 1.0


def test_a_click_does_not_wait_for_the_shared_counts() -> None:
    """Tokens are taken a few at a time, and new ones before the last is spent."""

    async def run() -> None:
        counts = CountedAsks()
        rate = SharedRate("clicks", RateLimitItemPerSecond(200), counts)  # ten at once
        assert await take(rate, "a", 4) == 4
        assert counts.hits == 1
        assert await take(rate, "a", 1) == 1
        counts.is_open.clear()
        await asyncio.sleep(0)
        assert counts.hits == 2, "half is spent"
        assert await asyncio.wait_for(take(rate, "a", 5), 60) == 5, "although the counts do not answer"
        waiting = asyncio.create_task(take(rate, "a", 1))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        counts.is_open.set()
        assert await waiting == 1

    asyncio.run(run())


def test_without_redis_each_replica_counts_for_itself(redis: ExternalRedis) -> None:
    async def story(replicas: list[RedisRateCounts]) -> None:
        first, second = (SharedRate("clicks", parse("5/day"), counts) for counts in replicas)
        assert await take(first, "a", 2) == 2
        redis.kill()
        assert await take(first, "a", 9) == 5
        assert await take(second, "a", 9) == 5
        redis.start()
        for counts in replicas:
            counts._away_until = 0.0
        assert await take(SharedRate("clicks", parse("3/day"), replicas[0]), "b", 9) == 3

    with_replicas(redis, 2, story)


def test_what_was_refused_is_let_through_later(shared_redis: ExternalRedis) -> None:
    async def story(replicas: list[RedisRateCounts]) -> None:
        rate, deadline = SharedRate("clicks", parse("3/second"), replicas[0]), time.monotonic() + 60
        while await take(rate, "later", 1):
            assert time.monotonic() < deadline
        while not await take(rate, "later", 1):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)

    with_replicas(shared_redis, 1, story)


def test_each_kind_has_its_rate_for_a_key_and_an_address_has_one_for_all(shared_redis: ExternalRedis) -> None:
    settings = Settings(rate_clicks="2/day", rate_requests="3/day;100/day", rate_address="8/day")
    metrics = Metrics()

    async def story(replicas: list[RedisRateCounts]) -> None:
        rates = RequestRates(settings, metrics, replicas[0])

        async def count(kind: RequestKind, identity: Identity, address: str) -> int:
            done = 0
            while (await rates.check(kind, identity, address))[0] is None and done < 50:
                done += 1
            return done

        assert await count(RequestKind.CLICK, ANNOTATOR, "10.0.0.1") == 2
        assert await count(RequestKind.OTHER, ANNOTATOR, "10.0.0.1") == 3
        refusal, usages = await rates.check(RequestKind.WATCH, ANNOTATOR, "10.0.0.9")
        assert isinstance(refusal, RateLimited)
        assert "More than 3 requests in 86400 s." in str(refusal)
        assert "SEGSERVE_RATE_REQUESTS" in refusal.remedy
        assert refusal.retry_after_s > 0
        assert [(usage.policy, usage.quota) for usage in usages] == [
            ("address-86400s", 8),
            ("requests-86400s", 3),
        ]
        assert usages[1].left == 0
        assert await count(RequestKind.CLICK, BATCH, "10.0.0.2") == 2, "another key"
        # One of its eight is left: refusals of a key count for its address too.
        assert await count(RequestKind.UPLOAD, ANNOTATOR, "10.0.0.1") == 1
        assert await count(RequestKind.CLICK, LOCAL_IDENTITY, "10.0.0.3") == 2, (
            "without keys an address is one"
        )
        assert await count(RequestKind.CLICK, LOCAL_IDENTITY, "10.0.0.4") == 2
        exposed = metrics.expose().decode()
        assert 'segserve_rejections_total{reason="rate_clicks"}' in exposed
        assert 'segserve_rejections_total{reason="rate_address"}' in exposed

    with_replicas(shared_redis, 1, story)


def test_equal_rates_of_two_settings_are_counted_apart(shared_redis: ExternalRedis) -> None:
    settings = Settings(
        rate_clicks="3/day", rate_uploads="3/day", rate_address="9/day", rate_requests="9/day"
    )

    async def story(replicas: list[RedisRateCounts]) -> None:
        rates = RequestRates(settings, Metrics(), replicas[0])

        async def send(kind: RequestKind) -> RateLimited | None:
            return (await rates.check(kind, LOCAL_IDENTITY, "10.0.1.1"))[0]

        assert [await send(RequestKind.CLICK) for _ in range(3)] == [None] * 3
        assert isinstance(await send(RequestKind.CLICK), RateLimited)
        assert await send(RequestKind.UPLOAD) is None
        # Five of the nine of the address are spent, and none of the nine of the requests.
        assert [await send(RequestKind.OTHER) for _ in range(4)] == [None] * 4

    with_replicas(shared_redis, 1, story)


def test_a_rate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"rate_clicks cannot be 'fast'.*50/second"):
        load_settings(data_dir=tmp_path, rate_clicks="fast")


def test_without_rates_nothing_is_counted() -> None:
    rates = RequestRates(Settings(), Metrics(), None)
    assert asyncio.run(rates.check(RequestKind.CLICK, LOCAL_IDENTITY, "10.0.0.1")) == (None, [])
