"""Single flight: of all replicas that want the same thing at once, one makes it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from segserve.errors import CacheUnavailable
from segserve.store.redis_cache import RedisCache
from segserve.timing import Timings

LEAD_S = 5.0  # how long a dead leader is waited for
POLL_S = 0.25  # how often a follower looks, should a notice be lost

T = TypeVar("T")


class SingleFlight:
    """The leader holds a lock in Redis and renews it; followers wait for its notice, look every POLL_S besides,
    and lead themselves once the lock is gone. A lost lock costs making it twice, never an error."""

    def __init__(self, cache: RedisCache) -> None:
        self._cache = cache
        self._waiting: dict[str, asyncio.Event] = {}

    def wake(self, key: str | None) -> None:
        """Somebody has what `key` stands for, or has given up; None: look again, whatever you wait for."""
        for event in self._waiting.values() if key is None else filter(None, [self._waiting.get(key)]):
            event.set()

    async def run_once(
        self,
        key: str,
        look: Callable[[], Awaitable[T | None]],
        make: Callable[[], Awaitable[T]],
        timings: Timings,
    ) -> T:
        """What `look` finds or else `make` makes, here or on another replica. Raises what they raise, and
        CacheUnavailable where the lock cannot be asked for."""
        token = secrets.token_hex(8)
        while True:
            if await self._cache.acquire_lead(key, token, LEAD_S):
                async with self._leading(key, token):
                    found = await look()  # the leader before may have finished just now
                    return found if found is not None else await make()
            with timings.stage("wait"):
                await self._notice(key)
            if (found := await look()) is not None:
                return found

    async def _notice(self, key: str) -> None:
        event = self._waiting.setdefault(key, asyncio.Event())
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), POLL_S)
        if self._waiting.get(key) is event:
            del self._waiting[key]

    @asynccontextmanager
    async def _leading(self, key: str, token: str) -> AsyncIterator[None]:
        renewal = asyncio.create_task(self._renew(key, token))
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(CacheUnavailable):
                await self._cache.release_lead(key, token)

    async def _renew(self, key: str, token: str) -> None:
        while True:
            await asyncio.sleep(LEAD_S / 3)
            with suppress(CacheUnavailable):
                await self._cache.acquire_lead(key, token, LEAD_S)
