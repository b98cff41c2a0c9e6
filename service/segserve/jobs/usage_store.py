"""Usage of tenants, by day, in the jobs' Redis, which is durable: losing the cache loses none of it."""

import asyncio
import secrets
from collections.abc import Mapping

import redis.asyncio as redis
import structlog

from segserve.errors import JobsUnavailable, SegserveError
from segserve.identity.tenant_policies import TenantPolicies
from segserve.jobs.engine.jobs_redis import call_redis
from segserve.metrics import Metrics, UsageDay
from segserve.store import redis_keys
from segserve.store.list_tenants import list_tenants
from segserve.store.object_store import ObjectStore
from segserve.store.storage_counts import StorageCounts

# A process that is killed loses what it counted since it last wrote.
WRITE_INTERVAL_S = 10.0
# How long days are kept: two years, and a leap day.
KEEP_DAYS = 731
DAY_S = 86_400
# How long it is remembered which writes arrived. One that got no answer is repeated for no longer.
REMEMBER_S = 2 * DAY_S
# What tenants store is measured this often, by one replica for all: large buckets take minutes to list.
MEASURE_INTERVAL_S = 3600.0
# The field of a day for what was stored when that was last measured.
STORED_BYTES = "stored_bytes"

log = structlog.get_logger(__name__)

# Adds to a day, unless the same write has arrived already. KEYS: 1 the day, 2 the writes that arrived, by process,
# 3 the tenants. ARGV: 1 the process, 2 the number of its write, 3 keep in s, 4 remember in s, 5 the tenant, then
# fields and amounts.
ADD = """
local last = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
if last >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[4])
for i = 6, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('SADD', KEYS[3], ARGV[5])
return 1
"""


class UsageStore:
    """`UsageStore` reads and writes what tenants have used. Its methods raise JobsUnavailable."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._process, self._last_write = secrets.token_hex(6), 0
        # A write that got no answer: it may have arrived, so it is repeated as it was.
        self._unanswered: list[tuple[int, UsageDay, dict[str, float]]] = []

    async def add(self, counts: Mapping[UsageDay, Mapping[str, float]]) -> None:
        """Add to days. What raises is added by the next call, once."""
        for day, amounts in counts.items():
            self._last_write += 1
            self._unanswered.append((self._last_write, day, dict(amounts)))
        while self._unanswered:
            await self._add(*self._unanswered[0])
            del self._unanswered[0]

    @property
    def has_unanswered(self) -> bool:
        return bool(self._unanswered)

    async def _add(self, number: int, day: UsageDay, amounts: dict[str, float]) -> None:
        keys = redis_keys.usage(*day), redis_keys.usage_writes(*day), redis_keys.usage_tenants()
        pairs = [text for kind, amount in amounts.items() for text in (kind, f"{amount:.6f}")]
        keep_s = KEEP_DAYS * DAY_S
        arguments = (self._process, str(number), str(keep_s), str(REMEMBER_S), day.tenant, *pairs)
        await call_redis(lambda: self._redis.eval(ADD, len(keys), *keys, *arguments))

    async def read(self, tenant: str, first_day: int, last_day: int) -> dict[int, dict[str, float]]:
        """Return what a tenant used on each day of a range on which it used anything. Days: since 1970."""
        pipeline = self._redis.pipeline(transaction=False)
        days = range(first_day, last_day + 1)
        for day in days:
            pipeline.hgetall(redis_keys.usage(tenant, day))
        answers = await call_redis(pipeline.execute)
        return {
            day: {kind.decode(): float(amount) for kind, amount in raw.items()}
            for day, raw in zip(days, answers, strict=True)
            if raw
        }

    async def list_tenants(self) -> list[str]:
        """Return the tenants that have used anything, or that store something."""
        members = await call_redis(lambda: self._redis.smembers(redis_keys.usage_tenants()))
        return sorted(member.decode() for member in members)

    async def begin_measuring(self) -> bool:
        """Return whether it is this process that measures what is stored now."""
        key, ms = redis_keys.storage_measured(), int(1000 * MEASURE_INTERVAL_S)
        return bool(await call_redis(lambda: self._redis.set(key, self._process, nx=True, px=ms)))

    async def put_stored(self, day: UsageDay, nbytes: int) -> None:
        """Note what a tenant stores."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hset(redis_keys.stored_bytes(), day.tenant, str(nbytes))
        pipeline.hset(redis_keys.usage(*day), STORED_BYTES, str(nbytes))
        pipeline.expire(redis_keys.usage(*day), KEEP_DAYS * DAY_S)
        pipeline.sadd(redis_keys.usage_tenants(), day.tenant)
        await call_redis(pipeline.execute)

    async def read_stored(self) -> dict[str, int]:
        """Return what each tenant stored when that was last measured, in bytes."""
        raw = await call_redis(lambda: self._redis.hgetall(redis_keys.stored_bytes()))
        return {tenant.decode(): int(nbytes) for tenant, nbytes in raw.items()}

    async def forget(self, tenant: str) -> None:
        """Forget that a tenant was there. Its days go with its other keys."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hdel(redis_keys.stored_bytes(), tenant)
        pipeline.srem(redis_keys.usage_tenants(), tenant)
        await call_redis(pipeline.execute)


class UsageWriter:
    """`UsageWriter` writes what this process counts, now and again, and shows what tenants store.

    counts: measures what they store, now and again, for one replica of all.
    """

    def __init__(
        self,
        store: UsageStore,
        objects: ObjectStore,
        counts: StorageCounts,
        policies: TenantPolicies,
        metrics: Metrics,
    ) -> None:
        self._store, self._objects, self._counts = store, objects, counts
        self._policies, self._metrics = policies, metrics

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._metrics.usage.name_tenants(self._policies.names())
            try:
                await self.write()
                self._metrics.usage.set_stored(await self._store.read_stored())
            except JobsUnavailable as error:
                log.warning("usage not written yet", reason=str(error))
            await asyncio.sleep(WRITE_INTERVAL_S)

    async def write(self) -> None:
        """Write what was counted since the last time. Raises JobsUnavailable; then nothing is lost."""
        if self._store.has_unanswered:
            await self._store.add({})
        await self._store.add(self._metrics.usage.take_counts())

    async def measure_storage(self) -> None:
        """Measure what each tenant stores until cancelled."""
        while True:
            try:
                if await self._store.begin_measuring():
                    for tenant in await list_tenants(self._objects):
                        stored = await self._counts.measure(tenant)
                        await self._store.put_stored(self._metrics.usage.today(tenant), stored.bytes)
            except SegserveError as error:
                log.warning("stored bytes not measured", reason=str(error))
            await asyncio.sleep(MEASURE_INTERVAL_S / 10)
