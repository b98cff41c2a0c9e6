"""The jobs' book: one hash a job in the jobs' Redis, and a stream of what happened to it.

    queued -> running -> succeeded | failed | cancelled        failed, cancelled -> queued (retry)

Each change is one script, so that it happens whole, once, and with its event. A start takes a new fence: what an
earlier start still tries to write is refused, so that of a worker that was given up for dead and its successor only
one publishes a chunk. Every method raises JobsUnavailable when Redis cannot be reached.
"""

import asyncio
import hashlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from segserve.errors import BadInput, Busy, JobNotFound, JobsUnavailable
from segserve.jobs.engine import lua_scripts
from segserve.jobs.engine.job import FIRST_REQUEST, Job, JobError, JobEvent, JobKind, JobState, PublishedChunk
from segserve.jobs.engine.retry_policy import MAX_ATTEMPTS
from segserve.store import keys
from segserve.store.redis_cache import open_connection_pool
from segserve.types import Priority

MAX_EVENTS_PER_READ = 100
# A lease here ends before a docket delivers a dead worker's job again, which is after three quarters of its own at
# the soonest.
LEASE_SHARE = 0.6
JOB_ID_PATTERN, EVENT_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}"), re.compile(r"0|\d{1,18}-\d{1,18}")
FOLLOW_POLL_S = (
    0.25  # how often somebody who follows a job looks: a blocked read would hold a connection each
)
MAX_LISTED_JOBS = 100

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class JobAttempt:
    """One start of a job, by one worker. job: as it was found, so `job.chunks` is the chunk to begin with. event: the
    id of what tells of this start."""

    job: Job
    fence: int
    event: str


def to_hash_fields(**values: object) -> list[str]:
    """name, value, name, value; what is None is left out."""
    return [
        text
        for name, value in values.items()
        if value is not None
        for text in (
            name,
            orjson.dumps(asdict(value)).decode() if isinstance(value, JobError) else str(value),
        )
    ]


def parse_job(tenant: str, job_id: str, raw: Mapping[bytes, bytes]) -> Job:
    text = {name.decode(): value.decode() for name, value in raw.items()}

    def number(name: str) -> float | None:
        return float(text[name]) if name in text else None

    return Job(
        tenant=tenant,
        job_id=job_id,
        kind=JobKind(text["kind"]),
        priority=Priority(text["priority"]),
        model=text["model"],
        state=JobState(text["state"]),
        created_at=float(text["created_at"]),
        done=int(text.get("done", 0)),
        total=int(text["total"]) if "total" in text else None,
        failures=int(text.get("failures", 0)),
        chunks=int(text.get("chunks", 0)),
        revision=int(text.get("revision", 0)),
        request_name=text.get("asked", FIRST_REQUEST),
        attempts=int(text.get("attempts", 0)),
        rate_per_s=number("rate_per_s"),
        error=JobError(**orjson.loads(text["error"])) if "error" in text else None,
        started_at=number("started_at"),
        ended_at=number("ended_at"),
        webhook=text.get("webhook"),
    )


def worker_died_error(chunk: int) -> JobError:
    return JobError(
        "worker_died",
        f"The worker died {MAX_ATTEMPTS} times in a row on part {chunk + 1} of the job.",
        "Read the worker's log; often its memory ran out. Then POST /v1/jobs/{job_id}/retry goes on from there.",
    )


async def call_redis(command: Callable[[], Awaitable[Any]]) -> Any:
    """The client decodes nothing: what its types call `bytes | str` is bytes. Raises JobsUnavailable."""
    try:
        return await command()
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("the jobs' Redis is unavailable", reason=repr(error))
        raise JobsUnavailable from error


class JobStore:
    """url: of the jobs' Redis. ttl_s: how long a job that has ended is remembered. max_active: queued and running
    jobs of all tenants together. lease_s: after so long dockets give a silent worker's job to another. on_end: told of
    every job that ends by a call here."""

    def __init__(
        self,
        url: str,
        timeout_s: float,
        *,
        ttl_s: int,
        max_active: int,
        lease_s: float,
        on_end: Callable[[JobKind, JobState], None] = lambda kind, state: None,
    ) -> None:
        self._on_end, self._lease_ms = on_end, int(1000 * LEASE_SHARE * lease_s)
        self._redis = redis.Redis.from_pool(open_connection_pool(url, timeout_s))
        self._timeout_s, self._ttl_s, self._most_active = timeout_s, ttl_s, max_active

    async def close(self) -> None:
        await self._redis.aclose()

    async def ping(self) -> None:
        await self._ask(self._redis.ping)

    async def _ask(self, command: Callable[[], Awaitable[Any]]) -> Any:
        return await call_redis(command)

    async def _run(
        self, script: str, job: tuple[str, str], *arguments: object, more: tuple[str, ...] = ()
    ) -> Any:
        check_job_id(job[1])
        own = (key(*job) for key in (keys.job, keys.job_events, keys.job_chunks))
        names = [*own, keys.active_jobs(), keys.job_lease(*job), *more]
        return await self._ask(
            lambda: self._redis.eval(script, len(names), *names, *(str(a) for a in arguments))
        )

    async def submit(self, job: Job, request: bytes, idempotency_key: str | None) -> str:
        """Write a queued job down; the id under which it stands: that of an earlier one with the same key. request:
        what it was asked. Raises BadInput where the key stood for another request, Busy."""
        digest = hashlib.sha256(request + (job.webhook or "").encode()).hexdigest()
        more = [keys.jobs(job.tenant)]
        if idempotency_key is not None:
            more.append(keys.idempotency(job.tenant, hashlib.sha256(idempotency_key.encode()).hexdigest()))
        fields = to_hash_fields(
            kind=job.kind, priority=job.priority, model=job.model, state=job.state,
            created_at=job.created_at, total=job.total, webhook=job.webhook,
        )  # fmt: skip
        answer = await self._run(
            lua_scripts.SUBMIT, (job.tenant, job.job_id), active_member(job.tenant, job.job_id), self._most_active,
            self._ttl_s, digest, job.job_id, job.created_at, *fields, more=tuple(more),
        )  # fmt: skip
        if answer == b"full":
            raise self._busy()
        job_id, request_then = (part.decode() for part in answer)
        if request_then != digest:
            raise BadInput(
                "This Idempotency-Key came with another request before.",
                field="idempotency-key",
                remedy="Take a new key for a new request, and the same for a repeated one.",
            )
        return str(job_id)

    def _busy(self) -> Busy:
        return Busy(f"{self._most_active} jobs wait already.", retry_after_s=60)

    async def get(self, tenant: str, job_id: str) -> Job:
        """Raises JobNotFound."""
        check_job_id(job_id)
        raw = await self._ask(lambda: self._redis.hgetall(keys.job(tenant, job_id)))
        if not raw:
            raise JobNotFound(job_id)
        return parse_job(tenant, job_id, raw)

    async def list_recent(self, tenant: str) -> list[Job]:
        """The newest first."""
        index = keys.jobs(tenant)
        ids = [
            i.decode() for i in await self._ask(lambda: self._redis.zrevrange(index, 0, MAX_LISTED_JOBS - 1))
        ]
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hgetall(keys.job(tenant, job_id))
        found = dict(zip(ids, await self._ask(pipeline.execute), strict=True))
        if gone := [job_id for job_id, raw in found.items() if not raw]:
            await self._ask(lambda: self._redis.zrem(index, *gone))
        return [parse_job(tenant, job_id, raw) for job_id, raw in found.items() if raw]

    async def list_active(self) -> list[tuple[str, str]]:
        """(tenant, job_id) of all that are queued or running."""
        members = await self._ask(lambda: self._redis.smembers(keys.active_jobs()))
        return [(tenant, job_id) for tenant, _, job_id in (m.decode().partition("/") for m in members)]

    async def count_active(self) -> Counter[tuple[Priority, JobState]]:
        """How many are queued and running, by class."""
        pipeline, found = self._redis.pipeline(transaction=False), await self.list_active()
        for job in found:
            pipeline.hmget(keys.job(*job), "priority", "state")
        states = await self._ask(pipeline.execute) if found else []
        return Counter((Priority(p.decode()), JobState(s.decode())) for p, s in states if p and s)

    async def list_published(self, tenant: str, job_id: str) -> list[PublishedChunk]:
        """The chunks that can be read, in order."""
        key = keys.job_chunks(tenant, job_id)
        return [decode_chunk(text) for text in await self._ask(lambda: self._redis.lrange(key, 0, -1))]

    # What workers do.

    async def begin(
        self,
        tenant: str,
        job_id: str,
        after: JobAttempt | None = None,
        last: JobError | None = None,
        *,
        token: str,
    ) -> JobAttempt | None:
        """Count a start and take the fence. None: the job has ended, or does so now for its attempts are used up, or
        another worker began it since the start `after`. last: why that one came to nothing; None: its worker died.
        token: random; asked again with it, as after a lost answer, the start is the same and counts once."""
        try:
            job = await self.get(tenant, job_id)
        except JobNotFound:
            return None
        answer = await self._run(
            lua_scripts.BEGIN, (tenant, job_id), active_member(tenant, job_id), self._ttl_s, time.time(), MAX_ATTEMPTS,
            orjson.dumps(asdict(last or worker_died_error(job.chunks))).decode(), "" if after is None else after.fence,
            self._lease_ms, token, more=(keys.due_hooks(),),
        )  # fmt: skip
        if answer == b"failed":
            self._on_end(job.kind, JobState.FAILED)
        if answer is None or answer == b"failed":
            return None
        fence, event = answer
        return JobAttempt(await self.get(tenant, job_id), int(fence), event.decode())

    async def renew_lease(self, start: JobAttempt) -> bool:
        """Nobody else may begin the job for a while. False: this start holds it no more, as of all methods that take
        one."""
        return await self._held(lua_scripts.RENEW, start, self._lease_ms)

    async def set_total(self, start: JobAttempt, total: int) -> bool:
        return await self._held(lua_scripts.SET_FIELDS, start, *to_hash_fields(total=total))

    async def publish(self, start: JobAttempt, chunk: int, ends: PublishedChunk, rate_per_s: float) -> bool:
        """The chunk's results lie in the object store: from now on they are seen."""
        more = to_hash_fields(failures=ends.failures, rate_per_s=rate_per_s)
        return await self._held(lua_scripts.PUBLISH, start, chunk, ends.done, encode_chunk(ends), *more)

    async def succeed(self, start: JobAttempt) -> bool:
        return await self._end(start, JobState.SUCCEEDED)

    async def fail(self, start: JobAttempt, error: JobError) -> bool:
        return await self._end(start, JobState.FAILED, error)

    async def _end(self, start: JobAttempt, state: JobState, error: JobError | None = None) -> bool:
        key = active_member(start.job.tenant, start.job.job_id)
        fields = to_hash_fields(state=state, error=error, ended_at=time.time())
        held = await self._held(lua_scripts.END, start, key, self._ttl_s, *fields, more=(keys.due_hooks(),))
        if held:
            self._on_end(start.job.kind, state)
        return held

    async def release(self, start: JobAttempt) -> bool:
        """Give the job back unfinished, on purpose: the start does not count."""
        return await self._held(lua_scripts.RELEASE, start)

    async def _held(
        self, script: str, start: JobAttempt, *arguments: object, more: tuple[str, ...] = ()
    ) -> bool:
        job = start.job.tenant, start.job.job_id
        return bool(await self._run(script, job, start.fence, *arguments, more=more))

    # What users do.

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """The job as it then is; one that has ended stays as it ended. Raises JobNotFound."""
        stopped = await self._run(
            lua_scripts.CANCEL,
            (tenant, job_id),
            active_member(tenant, job_id),
            self._ttl_s,
            time.time(),
            more=(keys.due_hooks(),),
        )
        job = await self.get(tenant, job_id)
        if stopped:
            self._on_end(job.kind, JobState.CANCELLED)
        return job

    async def retry(self, tenant: str, job_id: str) -> Job:
        """Raises JobNotFound, BadInput where it has not failed, Busy."""
        answer = await self._run(
            lua_scripts.RETRY, (tenant, job_id), active_member(tenant, job_id), self._most_active
        )
        if answer == b"full":
            raise self._busy()
        if not answer:
            job = await self.get(tenant, job_id)
            raise BadInput(
                f"The job is {job.state}: only what failed or was cancelled can be tried again.",
                field="job_id",
                remedy="Submit a new job.",
            )
        return await self.get(tenant, job_id)

    async def revise(self, job: Job, asked: str, keep: int) -> Job:
        """Queue a job again, for the request of that name, with only its first `keep` chunks published. Raises
        JobNotFound, Busy where its revision is another by now, or jobs are too many."""
        answer = await self._run(
            lua_scripts.REVISE, (job.tenant, job.job_id), active_member(job.tenant, job.job_id), job.revision, keep,
            self._most_active, asked,
        )  # fmt: skip
        match answer:
            case b"gone":
                raise JobNotFound(job.job_id)
            case b"raced":
                raise Busy("Somebody else changed the job at the same moment.", retry_after_s=1)
            case b"full":
                raise Busy(f"{self._most_active} jobs wait already.", retry_after_s=60)
        return await self.get(job.tenant, job.job_id)

    async def read_events(
        self, tenant: str, job_id: str, after: str, *, block: bool = False
    ) -> list[JobEvent]:
        """What happened after the event `after` ("0": from the beginning), oldest first. block: wait a while for the
        first one; this holds a connection. Raises BadInput where `after` is no event's id."""
        check_job_id(job_id)
        if not EVENT_ID_PATTERN.fullmatch(after):
            raise BadInput(
                f"{after[:64]!r} is no event's id.",
                field="last-event-id",
                remedy="Send the id of the last event that came, or none.",
            )
        key = keys.job_events(tenant, job_id)
        ms = int(500 * self._timeout_s) if block else None  # less than the connection's own timeout
        found = await self._ask(lambda: self._redis.xread({key: after}, MAX_EVENTS_PER_READ, ms))
        if not found:
            return []
        [[_, entries]] = found
        return [
            JobEvent(i.decode(), parse_job(tenant, job_id, raw), int(raw.get(b"fence", 0)))
            for i, raw in entries
        ]

    async def follow(
        self, tenant: str, job_id: str, after: str = "0", *, block: bool = False
    ) -> AsyncIterator[JobEvent | None]:
        """As `events`, one by one, until the job has ended; None now and then, when nothing happens. Raises what they
        raise."""
        while True:
            events = await self.read_events(tenant, job_id, after, block=block)
            for event in events:
                yield event
                after = event.id
                if event.job.state.has_ended:
                    return
            if not events:
                if (await self.get(tenant, job_id)).state.has_ended:  # and its end was told before
                    return
                yield None
                if not block:
                    await asyncio.sleep(FOLLOW_POLL_S)


def encode_chunk(chunk: PublishedChunk) -> str:
    return f"{chunk.lines} {chunk.done} {chunk.failures} {chunk.revision}"


def decode_chunk(noted: bytes) -> PublishedChunk:
    return PublishedChunk(*(int(number) for number in noted.split()))


def check_job_id(job_id: str) -> None:
    """What is no id of ours must not become part of a key. Raises JobNotFound."""
    if not JOB_ID_PATTERN.fullmatch(job_id):
        raise JobNotFound(job_id[:64])


def active_member(tenant: str, job_id: str) -> str:
    return f"{tenant}/{job_id}"
