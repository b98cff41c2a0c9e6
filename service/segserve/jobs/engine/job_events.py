"""The events of jobs: a Redis stream for each job, with the whole job after every change.

Server-sent events, gRPC's WatchJob and the workers, who learn of cancellations, read them here. `lua_scripts` appends
them.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import redis.asyncio as redis

from segserve.errors import BadInput
from segserve.jobs.engine.job import Job, JobEvent
from segserve.jobs.engine.jobs_redis import call_redis, check_job_id, parse_job
from segserve.store import redis_keys

EVENT_ID_PATTERN = re.compile(r"0|\d{1,18}-\d{1,18}")

# Events of one XREAD: enough for a client that comes late, without a long answer.
MAX_EVENTS_PER_READ = 100

# How often a follower of a job reads its events. A blocking read would hold one connection for each follower.
POLL_S = 0.25

# With many followers each of them reads less often, so that all together make no more reads than this.
MAX_POLLS_PER_S = 400

# Followers that read at the same time. More would make everybody else wait when hundreds begin at once.
MAX_READS_AT_ONCE = 8

# The end of a job is its last event, but events and jobs are deleted in the end. How often to look for the job itself.
JOB_CHECK_S = 10.0


class JobEventLog:
    """`JobEventLog` reads the events of jobs.

    timeout_s: of the Redis connection.
    get_job: returns a job. Raises JobNotFound.

    Every method raises JobsUnavailable if Redis cannot be reached.
    """

    def __init__(
        self, client: redis.Redis, timeout_s: float, get_job: Callable[[str, str], Awaitable[Job]]
    ) -> None:
        self._redis, self._timeout_s, self._get_job = client, timeout_s, get_job
        self._followers, self._reads = 0, asyncio.Semaphore(MAX_READS_AT_ONCE)

    async def read(self, tenant: str, job_id: str, after: str, *, block: bool = False) -> list[JobEvent]:
        """Return the events after the event `after` ("0": from the beginning), the oldest first.

        block: wait a while for the first event; this holds a connection.

        Raises BadInput if `after` is not the id of an event, JobNotFound if `job_id` cannot be the id of a job.
        """
        check_job_id(job_id)
        if not EVENT_ID_PATTERN.fullmatch(after):
            raise BadInput(
                f"{after[:64]!r} is no event's id.",
                field="last-event-id",
                remedy="Send the id of the last event that came, or none.",
            )
        key = redis_keys.job_events(tenant, job_id)
        ms = int(500 * self._timeout_s) if block else None  # less than the connection's timeout
        streams = await call_redis(lambda: self._redis.xread({key: after}, MAX_EVENTS_PER_READ, ms))
        if not streams:
            return []
        [[_, entries]] = streams
        return [
            JobEvent(event_id.decode(), parse_job(tenant, job_id, raw), int(raw.get(b"fence", 0)))
            for event_id, raw in entries
        ]

    async def follow(
        self, tenant: str, job_id: str, after: str = "0", *, block: bool = False
    ) -> AsyncIterator[JobEvent | None]:
        """Yield the events after `after`, one by one, until the job has ended; None now and then when nothing happens.

        Raises as `read` does, and JobNotFound.
        """
        self._followers += 1
        try:
            next_check = 0.0
            while True:
                events = await self._read_in_turn(tenant, job_id, after, block=block)
                for event in events:
                    yield event
                    after = event.id
                    if event.job.state.has_ended:
                        return
                if events:
                    continue
                if time.monotonic() >= next_check:
                    # The event of the end may lie before `after`.
                    if (await self._get_job(tenant, job_id)).state.has_ended:
                        return
                    next_check = time.monotonic() + JOB_CHECK_S
                yield None
                if not block:
                    await asyncio.sleep(max(POLL_S, self._followers / MAX_POLLS_PER_S))
        finally:
            self._followers -= 1

    async def _read_in_turn(self, tenant: str, job_id: str, after: str, *, block: bool) -> list[JobEvent]:
        if block:  # workers, of whom there are few
            return await self.read(tenant, job_id, after, block=True)
        async with self._reads:
            return await self.read(tenant, job_id, after)
