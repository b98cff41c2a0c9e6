"""Gauges that nothing else sets: the event loop's lag, and what Redis and the devices hold."""

import asyncio
from contextlib import suppress

from segserve.device_memory import DeviceMemory
from segserve.errors import CacheUnavailable
from segserve.metrics import Metrics
from segserve.store.redis_cache import RedisCache

LAG_INTERVAL_S = 0.5
# Redis and the GPUs' driver are asked less often: each takes a few milliseconds.
USAGE_INTERVAL_S = 5.0


async def update_gauges(metrics: Metrics, cache: RedisCache, device_memory: DeviceMemory) -> None:
    """Keep the gauges up to date until cancelled."""
    loop, evicted_before, next_usage = asyncio.get_running_loop(), None, 0.0
    while True:
        due = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        metrics.process.set_event_loop_lag(max(0.0, loop.time() - due))
        if loop.time() < next_usage:
            continue
        next_usage = loop.time() + USAGE_INTERVAL_S
        for device, used in (await asyncio.to_thread(device_memory.read_used_bytes)).items():
            metrics.process.set_device_memory(device, used)
        with suppress(CacheUnavailable):
            entries, nbytes, evicted = await cache.usage()
            metrics.caches.set_size("redis", entries, nbytes)
            if evicted_before is not None:
                # Fewer than before: the server was restarted and counts from 0.
                metrics.caches.count_evictions("redis", max(0, evicted - evicted_before))
            evicted_before = evicted
