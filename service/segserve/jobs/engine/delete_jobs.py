"""Deletes all jobs of a tenant, with all that is known of them."""

from functools import partial

from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.engine.jobs_redis import call_redis
from segserve.store import redis_keys

KEYS_PER_SCAN = 1000


async def delete_jobs_of_tenant(store: JobStore, tenant: str) -> int:
    """Cancel the tenant's jobs, and delete every key of the tenant in the jobs' Redis. Return how many there were.

    Their workers stop. What dockets still deliver is not found. Raises JobsUnavailable.
    """
    for owner, job_id in await store.list_active():
        if owner == tenant:
            await store.cancel(tenant, job_id)
    redis = store.redis
    prefix = f"{tenant}/".encode()
    pipeline = redis.pipeline(transaction=False)
    for member in await call_redis(lambda: redis.smembers(redis_keys.active_jobs())):
        if member.startswith(prefix):
            pipeline.srem(redis_keys.active_jobs(), member)
    for member in await call_redis(lambda: redis.zrange(redis_keys.due_webhooks(), 0, -1)):
        if member.startswith(prefix):
            pipeline.zrem(redis_keys.due_webhooks(), member)
    for member in await call_redis(lambda: redis.hkeys(redis_keys.webhook_attempts())):
        if member.startswith(prefix):
            pipeline.hdel(redis_keys.webhook_attempts(), member)
    await call_redis(pipeline.execute)
    return sum([await delete_matching(store, pattern) for pattern in redis_keys.patterns_of_tenant(tenant)])


async def delete_matching(store: JobStore, pattern: str) -> int:
    redis, count, cursor = store.redis, 0, 0
    while True:
        cursor, keys = await call_redis(partial(redis.scan, cursor, match=pattern, count=KEYS_PER_SCAN))
        if keys:
            count += await call_redis(partial(redis.unlink, *keys))
        if not cursor:
            return count
