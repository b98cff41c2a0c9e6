"""The webhooks that are due: the script that ends a job notes its own, a sender takes it for a while, and notes that
it arrived, or when to try again. What a sender that died had taken is due again by itself.

Every method raises JobsUnavailable when Redis cannot be reached.
"""

from dataclasses import dataclass

import redis.asyncio as redis

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.job_store import call_redis, parse_job
from segserve.store import keys
from segserve.store.redis_cache import open_connection_pool

# KEYS of all: the due hooks, how often each was tried. Times are the server's own, in ms.
NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
# ARGV: for how long, in ms. The hook and how often it was tried, this time included.
TAKE = f"""{NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
if not due then return nil end
redis.call('ZADD', KEYS[1], now + ARGV[1], due)
return {{due, redis.call('HINCRBY', KEYS[2], due, 1)}}
"""
# ARGV: the hook, in how many ms.
RESCHEDULE = f"""{NOW}
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
"""
# ARGV: the hook.
REMOVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
"""


@dataclass(frozen=True)
class DueWebhook:
    """The end of a job that somebody is to hear of. event: the id of what tells of that end, in the job's stream.
    attempt: from 1."""

    tenant: str
    job_id: str
    event: str
    attempt: int

    @property
    def member(self) -> str:
        return f"{self.tenant}/{self.job_id}/{self.event}"


class WebhookQueue:
    """url: of the jobs' Redis."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._redis = redis.Redis.from_pool(open_connection_pool(url, timeout_s))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _run(self, script: str, *arguments: object) -> list[bytes] | None:
        names = [keys.due_hooks(), keys.tried_hooks()]
        answer: list[bytes] | None = await call_redis(
            lambda: self._redis.eval(script, len(names), *names, *(str(a) for a in arguments))
        )
        return answer

    async def count(self) -> int:
        """How many have not arrived, tried or not."""
        return int(await call_redis(lambda: self._redis.zcard(keys.due_hooks())))

    async def take(self, lease_s: float) -> DueWebhook | None:
        """One that is due, for so long nobody else's."""
        found = await self._run(TAKE, int(1000 * lease_s))
        if found is None:
            return None
        tenant, job_id, event = found[0].decode().split("/")
        return DueWebhook(tenant, job_id, event, int(found[1]))

    async def get_ended_job(self, due: DueWebhook) -> Job | None:
        """As it was when it ended, whatever became of it since. None: it is forgotten."""
        stream = keys.job_events(due.tenant, due.job_id)
        found = await call_redis(lambda: self._redis.xrange(stream, due.event, due.event))
        return parse_job(due.tenant, due.job_id, found[0][1]) if found else None

    async def reschedule(self, due: DueWebhook, delay_s: float) -> None:
        await self._run(RESCHEDULE, due.member, int(1000 * delay_s))

    async def remove(self, due: DueWebhook) -> None:
        """It arrived, or is given up."""
        await self._run(REMOVE, due.member)
