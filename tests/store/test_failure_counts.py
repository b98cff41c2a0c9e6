"""Failed logins that replicas count together, in a real Redis, and what happens without it."""

import asyncio

import pytest

from segserve.errors import RateLimited
from segserve.identity.failure_limit import MAX_FAILURES, FailureLimit
from segserve.store.failure_counts import RedisFailureCounts
from segserve.store.rate_counts import RedisRateCounts
from tests.conftest import ExternalRedis

CLIENT = "192.0.2.1"


async def fail(limit: FailureLimit, times: int) -> int:
    """Return how many of so many wrong credentials were looked at."""
    for number in range(times):
        try:
            await limit.check(CLIENT, f"wrong {number}")
        except RateLimited:
            return number
        await limit.count_failure(CLIENT)
    return times


def test_replicas_share_failures_and_what_was_right_and_do_without_redis(redis: ExternalRedis) -> None:
    async def story() -> None:
        replicas = [RedisRateCounts(redis.url, 2.0) for _ in range(2)]
        first, second = (FailureLimit(RedisFailureCounts(counts)) for counts in replicas)
        try:
            await first.note_success(CLIENT, "right")
            assert await fail(first, MAX_FAILURES // 2) == MAX_FAILURES // 2
            assert await fail(second, 2 * MAX_FAILURES) <= MAX_FAILURES // 2 + 1
            with pytest.raises(RateLimited) as caught:
                await first.check(CLIENT, "perhaps right")
            assert 1 <= caught.value.retry_after_s <= 60
            await second.check(CLIENT, "right")  # which the first has seen
            await second.check("192.0.2.2", "perhaps right")
            redis.kill()
            third = FailureLimit(RedisFailureCounts(replicas[0]))
            assert await fail(third, 2 * MAX_FAILURES) <= MAX_FAILURES + 1, "it counts alone"
            await third.check("192.0.2.3", "any")
        finally:
            for counts in replicas:
                await counts.close()

    asyncio.run(story())
