import asyncio

import pytest

from segserve.errors import RateLimited
from segserve.identity import failure_limit
from segserve.identity.failure_limit import FailureLimit


def test_who_fails_too_often_is_refused_whatever_he_sends() -> None:
    limit = FailureLimit(max_failures=3, forget_s=1000)
    for _ in range(3):
        asyncio.run(limit.check("192.0.2.1", "wrong"))
        asyncio.run(limit.count_failure("192.0.2.1"))
    with pytest.raises(RateLimited) as caught:
        asyncio.run(limit.check("192.0.2.1", "perhaps right"))
    assert 0 < caught.value.retry_after_s <= 1000
    asyncio.run(limit.check("192.0.2.2", "perhaps right"))


def test_a_credential_that_was_right_there_before_goes_on() -> None:
    limit = FailureLimit(max_failures=1, forget_s=1000)
    asyncio.run(limit.note_success("192.0.2.1", "right"))
    asyncio.run(limit.count_failure("192.0.2.1"))
    asyncio.run(limit.check("192.0.2.1", "right"))
    with pytest.raises(RateLimited):
        asyncio.run(limit.check("192.0.2.1", "wrong"))
    asyncio.run(limit.count_failure("192.0.2.2"))
    with pytest.raises(RateLimited):  # proven elsewhere only
        asyncio.run(limit.check("192.0.2.2", "right"))


def test_failures_are_forgotten() -> None:
    limit = FailureLimit(max_failures=1, forget_s=1e-9)
    asyncio.run(limit.count_failure("192.0.2.1"))
    asyncio.run(limit.check("192.0.2.1", "another"))


def test_what_is_remembered_is_bounded() -> None:
    limit = FailureLimit()
    for number in range(failure_limit.MAX_CLIENTS + 10):
        asyncio.run(limit.count_failure(f"client {number}"))
        asyncio.run(limit.note_success(f"client {number}", "right"))
    assert len(limit._failures) == failure_limit.MAX_CLIENTS
    assert len(limit._proven) == failure_limit.MAX_PROVEN


class SharedCounts:
    """What two replicas know. asked: how often."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self.proven: set[bytes] = set()
        self.asked = 0

    async def count(self, client: str) -> None:
        self.failures[client] = self.failures.get(client, 0) + 1

    async def wait_s(self, client: str) -> float:
        self.asked += 1
        return 7.2 if self.failures.get(client, 0) >= 4 else 0.0

    async def prove(self, proven: bytes) -> None:
        self.proven.add(proven)

    async def is_proven(self, proven: bytes) -> bool:
        return proven in self.proven


def test_replicas_count_together_and_ask_about_unknown_credentials_only() -> None:
    async def check() -> None:
        shared = SharedCounts()
        first, second = (FailureLimit(shared, max_failures=4, forget_s=1000) for _ in range(2))
        await first.note_success("192.0.2.1", "right")
        for limit in (first, second) * 2:
            await limit.check("192.0.2.1", "wrong")
            await limit.count_failure("192.0.2.1")
        for limit in (first, second):
            with pytest.raises(RateLimited) as caught:
                await limit.check("192.0.2.1", "perhaps right")
            assert caught.value.retry_after_s == 8
        await second.check("192.0.2.1", "right")  # which the first has seen
        asked = shared.asked
        await first.check("192.0.2.1", "right")
        assert shared.asked == asked, "a click with a key that is known here waits for nothing"
        await second.check("192.0.2.2", "any")

    asyncio.run(check())
