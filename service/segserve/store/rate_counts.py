"""The counts of requests that all replicas share, in the cache's Redis, by the library limits."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from segserve.store import redis_keys
from segserve.store.redis_cache import SETTING
from segserve.store.redis_connection import (
    CLUSTER_OPTIONS,
    REDIS_ERRORS,
    open_connection_pool,
    timeouts,
)
from segserve.store.redis_url import is_cluster_url, parse_cluster_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from limits import RateLimitItem
    from limits.aio.strategies import SlidingWindowCounterRateLimiter

# A request does not wait longer for Redis: it is counted here instead.
MAX_REDIS_WAIT_S = 0.25
# After Redis did not answer, requests are counted here for so long before it is asked again.
AWAY_S = 1.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


class RedisRateCounts:
    """`RedisRateCounts` counts by a sliding window: the last one and the present one, weighted by time.

    While Redis does not answer, each replica counts for itself: a rate then holds for each replica, not for all
    together.

    url: of the Redis. timeout_s: bounds connecting.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        # Imported here: most services have no rates.
        from limits.aio.storage import MemoryStorage, RedisClusterStorage, RedisStorage
        from limits.aio.strategies import SlidingWindowCounterRateLimiter

        options: dict[str, Any] = {
            "wrap_exceptions": True,
            "implementation": "redispy",
            "key_prefix": redis_keys.rates(),
        }
        if is_cluster_url(url):
            address = parse_cluster_url(url)
            options |= {**CLUSTER_OPTIONS, **timeouts(timeout_s), **address.options}
            nodes = ",".join(f"{host}:{port}" for host, port in address.nodes)
            self._storage: RedisStorage = RedisClusterStorage(f"async+redis+cluster://{nodes}", **options)
            self._pool = None
        else:
            self._pool = options["connection_pool"] = open_connection_pool(url, timeout_s, SETTING)
            self._storage = RedisStorage("async+redis://", **options)
        self._shared = SlidingWindowCounterRateLimiter(self._storage)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._away_until = 0.0

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.aclose()
        else:
            bridge: Any = self._storage.bridge
            await bridge.get_connection().aclose()

    async def hit(self, rate: "RateLimitItem", key: str, cost: int) -> bool:
        """Count requests, if so many fit into the rate. Returns whether they do."""
        return await self._ask(lambda limiter: limiter.hit(rate, key, cost=cost))

    async def look(self, rate: "RateLimitItem", key: str) -> tuple[int, float]:
        """Return how many requests are left, and in how many seconds there will be more."""
        stats = await self._ask(lambda limiter: limiter.get_window_stats(rate, key))
        return stats.remaining, max(0.0, stats.reset_time - time.time())

    async def _ask(self, question: "Callable[[SlidingWindowCounterRateLimiter], Awaitable[T]]") -> T:
        from limits.errors import StorageError

        if time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(MAX_REDIS_WAIT_S):
                    return await question(self._shared)
            except (StorageError, *REDIS_ERRORS) as error:
                log.warning("requests are counted by each replica alone", reason=describe(error))
                self._away_until = time.monotonic() + AWAY_S
        return await question(self._local)


def describe(error: Any) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}"
