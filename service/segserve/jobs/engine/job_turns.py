"""Whose job runs next: tenants take turns, job by job and within long jobs."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import redis.asyncio as redis

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.jobs_redis import call_redis
from segserve.store import redis_keys
from segserve.types import Priority

# A tenant that had no turn for so long is as good as new.
TURN_TTL_S = 86_400


@dataclass(frozen=True)
class ActiveJob:
    """A job that is queued or running.

    created_at: seconds since the epoch.
    is_held: a worker runs it, or goes on with it after a pause. What nobody holds waits.
    """

    tenant: str
    job_id: str
    priority: Priority
    created_at: float
    is_held: bool


class JobTurns:
    """`JobTurns` lets tenants take turns. All workers share the turns in Redis.

    The next job is of the tenant with the fewest jobs on workers, and among these of the one whose last turn is the
    longest ago; of a tenant the oldest job is first. So a tenant with one job waits for one job, or one turn, of each
    other tenant, not for all that they have queued. Priorities have turns of their own.

    list_active: returns all active jobs, of every priority.
    Every method raises JobsUnavailable.
    """

    def __init__(self, client: redis.Redis, list_active: Callable[[], Awaitable[list[ActiveJob]]]) -> None:
        self._redis, self._list_active = client, list_active

    async def find_next(self, priority: Priority) -> ActiveJob | None:
        """Return the job whose turn it is; None if none waits. Another worker may take it at the same moment."""
        active = [job for job in await self._list_active() if job.priority is priority]
        waiting = [job for job in active if not job.is_held]
        if not waiting:
            return None
        tenants = sorted({job.tenant for job in waiting})
        keys = [redis_keys.job_turn(tenant, priority) for tenant in tenants]
        turns = {
            tenant: int(turn or 0)
            for tenant, turn in zip(tenants, await call_redis(lambda: self._redis.mget(keys)), strict=True)
        }
        held = Counter(job.tenant for job in active if job.is_held)
        return min(waiting, key=lambda job: (held[job.tenant], turns[job.tenant], job.created_at))

    async def note(self, job: Job) -> None:
        """Note that a job has its turn."""
        number = await call_redis(lambda: self._redis.incr(redis_keys.job_turn_count()))
        key = redis_keys.job_turn(job.tenant, job.priority)
        await call_redis(lambda: self._redis.set(key, number, ex=TURN_TTL_S))

    async def is_over(self, job: Job) -> bool:
        """Return whether a job that runs should make way: a job of a tenant that has fewer on workers waits."""
        active = [other for other in await self._list_active() if other.priority is job.priority]
        held = Counter(other.tenant for other in active if other.is_held)
        return any(not other.is_held and held[other.tenant] < held[job.tenant] for other in active)
