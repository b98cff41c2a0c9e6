"""The queue of due webhooks, in the jobs' Redis.

The script that ends a job adds its webhook (`lua_scripts`). A sender takes it for a while, and then removes it or
reschedules it. If the sender dies, the webhook is due again by itself.

Every method raises JobsUnavailable if Redis cannot be reached.
"""

import random
from dataclasses import dataclass

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.jobs_redis import call_redis, connect_jobs_redis, parse_job
from segserve.store import redis_keys

MINUTE_S = 60
HOUR_S = 3600

# Pauses between the attempts: the example schedule of the specification, three days in all.
RETRY_DELAYS_S = (5, 5 * MINUTE_S, 30 * MINUTE_S, *(hours * HOUR_S for hours in (2, 5, 10, 14, 20, 24)))

# Random share that is added to a delay, so that a receiver that comes back does not get everything at once.
MAX_JITTER = 0.1

# KEYS of all scripts: 1 the due webhooks (a sorted set by due time), 2 how often each was tried (a hash). Times are the
# Redis server's own, in ms.
NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
"""
# ARGV: for how long the webhook is taken, in ms. Returns the webhook and how often it was tried, this time included.
TAKE = f"""{NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
if not due then return nil end
redis.call('ZADD', KEYS[1], now + ARGV[1], due)
return {{due, redis.call('HINCRBY', KEYS[2], due, 1)}}
"""
# ARGV: the webhook, in how many ms it is due again.
RESCHEDULE = f"""{NOW}
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
"""
# ARGV: the webhook.
REMOVE = """
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
"""


@dataclass(frozen=True)
class DueWebhook:
    """The webhook for one end of a job.

    event: the id of the event that reports the end, in the job's stream.
    attempt: from 1.
    """

    tenant: str
    job_id: str
    event: str
    attempt: int

    @property
    def member(self) -> str:
        return f"{self.tenant}/{self.job_id}/{self.event}"

    @property
    def retry_delay_s(self) -> float | None:
        """How long to wait for the next attempt after this one failed. None: this was the last one."""
        if self.attempt > len(RETRY_DELAYS_S):
            return None
        return RETRY_DELAYS_S[self.attempt - 1] * random.uniform(1, 1 + MAX_JITTER)  # noqa: S311  # no secret


class WebhookQueue:
    """`WebhookQueue` hands out due webhooks. url: of the jobs' Redis."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._redis = connect_jobs_redis(url, timeout_s)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _run_script(self, script: str, *arguments: object) -> list[bytes] | None:
        names = [redis_keys.due_webhooks(), redis_keys.webhook_attempts()]
        answer: list[bytes] | None = await call_redis(
            lambda: self._redis.eval(script, len(names), *names, *(str(a) for a in arguments))
        )
        return answer

    async def count(self) -> int:
        """Return how many webhooks have not been delivered, tried or not."""
        return int(await call_redis(lambda: self._redis.zcard(redis_keys.due_webhooks())))

    async def take(self, lease_s: float) -> DueWebhook | None:
        """Take a due webhook; for `lease_s` seconds nobody else gets it. None if none is due."""
        answer = await self._run_script(TAKE, int(1000 * lease_s))
        if answer is None:
            return None
        tenant, job_id, event = answer[0].decode().split("/")
        return DueWebhook(tenant, job_id, event, int(answer[1]))

    async def get_ended_job(self, due: DueWebhook) -> Job | None:
        """Return the job as it was when it ended, whatever happened to it since. None if its events have expired."""
        stream = redis_keys.job_events(due.tenant, due.job_id)
        entries = await call_redis(lambda: self._redis.xrange(stream, due.event, due.event))
        return parse_job(due.tenant, due.job_id, entries[0][1]) if entries else None

    async def reschedule(self, due: DueWebhook, delay_s: float) -> None:
        await self._run_script(RESCHEDULE, due.member, int(1000 * delay_s))

    async def remove(self, due: DueWebhook) -> None:
        """Remove a webhook that was delivered or is given up."""
        await self._run_script(REMOVE, due.member)
