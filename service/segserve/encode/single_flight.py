"""Single flight over Redis: of all replicas that need the same thing at the same time, one computes it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from segserve.errors import CacheUnavailable
from segserve.store.redis_cache import RedisCache
from segserve.timing import Timings

# How long a dead leader blocks the others. Longer than the pauses of a busy event loop, which delay renewals.
LEAD_S = 5.0
# How often a follower looks by itself: Redis may lose a notice.
POLL_S = 0.25

T = TypeVar("T")


class SingleFlight:
    """`SingleFlight` lets one replica compute a value while the others wait for it.

    The leader holds a lock in Redis and renews it. Followers wait for its notice, and look every POLL_S besides. Once
    the lock is gone they try to lead. A lock that is lost means that the value is computed twice, never an error.
    """

    def __init__(self, cache: RedisCache) -> None:
        self._cache = cache
        self._waiting: dict[str, asyncio.Event] = {}

    def wake(self, key: str | None) -> None:
        """Let those who wait for `key` look again: its leader has finished or given up. None wakes all."""
        for event in self._waiting.values() if key is None else filter(None, [self._waiting.get(key)]):
            event.set()

    async def run_once(
        self,
        key: str,
        find: Callable[[], Awaitable[T | None]],
        compute: Callable[[], Awaitable[T]],
        timings: Timings,
    ) -> T:
        """Return what `find` finds, or what `compute` returns on this or another replica.

        Raises what they raise, and CacheUnavailable if Redis cannot be asked for the lock.
        """
        token = secrets.token_hex(8)
        while True:
            if await self._cache.acquire_lead(key, token, LEAD_S):
                async with self._lead(key, token):
                    value = await find()  # the leader before may have finished just now
                    return value if value is not None else await compute()
            with timings.stage("wait"):
                await self._wait_for_notice(key)
            if (value := await find()) is not None:
                return value

    async def _wait_for_notice(self, key: str) -> None:
        event = self._waiting.setdefault(key, asyncio.Event())
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), POLL_S)
        if self._waiting.get(key) is event:
            del self._waiting[key]

    @asynccontextmanager
    async def _lead(self, key: str, token: str) -> AsyncIterator[None]:
        try:
            async with self._cache.keep_lead(key, token, LEAD_S):
                yield
        finally:
            with suppress(CacheUnavailable):
                await self._cache.release_lead(key, token)
