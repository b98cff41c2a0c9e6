"""The jobs' states in Redis: one hash for each job. Its events are a stream (`job_events`).

Each change is one Lua script (`lua_scripts`), so that it happens whole, once, and together with its event. The states
are drawn at `job.JobState`.

Fencing: every attempt at a job takes a new fencing token (`fence`), and a script refuses what an earlier attempt still
tries to write. So of a worker that was given up for dead and its successor only one publishes a chunk.

Every method raises JobsUnavailable if Redis cannot be reached.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from segserve.errors import BadInput, Busy, JobNotFound
from segserve.identity.tenant_policies import TenantPolicies
from segserve.jobs.engine import lua_scripts
from segserve.jobs.engine.job import Job, JobError, JobKind, JobState, PublishedChunk
from segserve.jobs.engine.job_events import JobEventLog
from segserve.jobs.engine.job_turns import ActiveJob, JobTurns
from segserve.jobs.engine.jobs_redis import (
    call_redis,
    check_job_id,
    connect_jobs_redis,
    parse_job,
    to_hash_fields,
)
from segserve.jobs.engine.object_ends import ObjectEnds
from segserve.jobs.engine.retry_policy import MAX_ATTEMPTS
from segserve.store import redis_keys
from segserve.store.redis_url import is_sentinel_url
from segserve.types import Priority

# A lease here must end before a docket delivers the job of a dead worker again. That is after three quarters of the
# docket's own lease at the soonest.
LEASE_SHARE = 0.6

# How long what users change waits for a replica of the Redis. One that is not there must not stop the jobs.
REPLICA_WAIT_MS = 500

# Jobs that GET /v1/jobs lists.
MAX_LISTED_JOBS = 100


@dataclass(frozen=True)
class JobAttempt:
    """One attempt at a job, by one worker.

    job: the job when the attempt began; `job.chunks` is the first chunk to make.
    fence: the fencing token of the attempt.
    event: the id of the event that reports its beginning.
    """

    job: Job
    fence: int
    event: str


class JobStore:
    """`JobStore` reads and changes the states of jobs. Its `events` are the `JobEventLog`, its `turns` the
    `JobTurns`.

    url: of the jobs' Redis.
    ttl_s: how long a job that has ended is kept.
    max_active: queued and running jobs of all tenants together.
    policies: how many of them one tenant may have.
    lease_s: after this long, dockets give the job of a silent worker to another.
    on_end: called with the kind and state of every job that ends by a call to this object.
    on_refused: called when a job is refused because `max_active` are.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float,
        *,
        ttl_s: int,
        max_active: int,
        lease_s: float,
        policies: TenantPolicies | None = None,
        on_end: Callable[[JobKind, JobState], None] = lambda kind, state: None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_refused, self._policies = on_refused, policies or TenantPolicies()
        self._on_end, self._lease_ms = on_end, int(1000 * LEASE_SHARE * lease_s)
        self.redis, self._has_replicas = connect_jobs_redis(url, timeout_s), is_sentinel_url(url)
        self._ttl_s, self._max_active = ttl_s, max_active
        self.events = JobEventLog(self.redis, timeout_s, self.get)
        self.turns = JobTurns(self.redis, self.list_active_jobs)

    async def close(self) -> None:
        await self.redis.aclose()

    async def ping(self) -> None:
        await call_redis(self.redis.ping)

    async def _run_script(
        self,
        script: str,
        job: tuple[str, str],
        *arguments: object,
        more_keys: tuple[str, ...] = (),
        replicated: bool = False,
    ) -> Any:
        """replicated: wait for a replica to have the change, where there is one: a failover then keeps it."""
        check_job_id(job[1])
        job_keys = (key(*job) for key in (redis_keys.job, redis_keys.job_events, redis_keys.job_chunks))
        names = [*job_keys, redis_keys.active_jobs(), redis_keys.job_lease(*job), *more_keys]
        texts = [str(argument) for argument in arguments]
        if not (replicated and self._has_replicas):
            return await call_redis(lambda: self.redis.eval(script, len(names), *names, *texts))
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.eval(script, len(names), *names, *texts)
        pipeline.wait(1, REPLICA_WAIT_MS)
        answer, _ = await call_redis(pipeline.execute)
        return answer

    async def submit(self, job: Job, request: bytes, idempotency_key: str | None) -> str:
        """Store a queued job and return its id, or the id of the earlier job with the same idempotency key.

        request: the request of the job; with the webhook it is what the idempotency key stands for.

        Raises BadInput if the key came with another request before, Busy.
        """
        digest = hashlib.sha256(request + (job.webhook or "").encode()).hexdigest()
        more_keys = [redis_keys.jobs(job.tenant)]
        if idempotency_key is not None:
            key_digest = hashlib.sha256(idempotency_key.encode()).hexdigest()
            more_keys.append(redis_keys.idempotency(job.tenant, key_digest))
        fields = to_hash_fields(
            kind=job.kind, priority=job.priority, model=job.model, state=job.state,
            created_at=job.created_at, total=job.total, webhook=job.webhook, submitted_by=job.submitted_by,
        )  # fmt: skip
        answer = await self._run_script(
            lua_scripts.SUBMIT, (job.tenant, job.job_id), active_member(job.tenant, job.job_id), self._max_active,
            self._max_of_tenant(job.tenant), self._ttl_s, digest, job.job_id, job.created_at, *fields,
            more_keys=tuple(more_keys), replicated=True,
        )  # fmt: skip
        if answer in (b"full", b"tenant_full"):
            raise self._too_many_jobs(answer, job.tenant)
        job_id, earlier_digest = (part.decode() for part in answer)
        if earlier_digest != digest:
            raise BadInput(
                "This Idempotency-Key came with another request before.",
                field="idempotency-key",
                remedy="Take a new key for a new request, and the same for a repeated one.",
            )
        return str(job_id)

    def _max_of_tenant(self, tenant: str) -> int:
        return self._policies.get(tenant).max_jobs

    def _too_many_jobs(self, answer: bytes, tenant: str) -> Busy:
        """answer: of a script: whose jobs are too many."""
        self._on_refused()
        if answer == b"full":
            return Busy(f"{self._max_active} jobs wait already.", retry_after_s=60)
        return Busy(
            f"The quota of {self._max_of_tenant(tenant)} jobs that wait or run is full.",
            remedy="Try again when one of them has ended, or cancel one with DELETE /v1/jobs/{job_id}.",
            retry_after_s=60,
        )

    async def get(self, tenant: str, job_id: str) -> Job:
        """Raises JobNotFound."""
        check_job_id(job_id)
        raw = await call_redis(lambda: self.redis.hgetall(redis_keys.job(tenant, job_id)))
        if not raw:
            raise JobNotFound(job_id)
        return parse_job(tenant, job_id, raw)

    async def list_recent(self, tenant: str) -> list[Job]:
        """Return the newest jobs, the newest first."""
        index = redis_keys.jobs(tenant)
        members = await call_redis(lambda: self.redis.zrevrange(index, 0, MAX_LISTED_JOBS - 1))
        ids = [member.decode() for member in members]
        pipeline = self.redis.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hgetall(redis_keys.job(tenant, job_id))
        hashes = dict(zip(ids, await call_redis(pipeline.execute), strict=True))
        if expired := [job_id for job_id, raw in hashes.items() if not raw]:
            await call_redis(lambda: self.redis.zrem(index, *expired))
        return [parse_job(tenant, job_id, raw) for job_id, raw in hashes.items() if raw]

    async def list_active(self) -> list[tuple[str, str]]:
        """Return (tenant, job_id) of all queued and running jobs."""
        members = await call_redis(lambda: self.redis.smembers(redis_keys.active_jobs()))
        return [(tenant, job_id) for tenant, _, job_id in (m.decode().partition("/") for m in members)]

    async def list_active_jobs(self) -> list[ActiveJob]:
        """Return the queued and running jobs, but those of a kind that only a newer version knows."""
        pipeline, active = self.redis.pipeline(transaction=False), await self.list_active()
        for job in active:
            pipeline.hmget(redis_keys.job(*job), "kind", "priority", "created_at")
            pipeline.exists(redis_keys.job_lease(*job))
        answers = await call_redis(pipeline.execute) if active else []
        return [
            ActiveJob(*job, Priority(fields[1].decode()), float(fields[2]), bool(is_held))
            for job, fields, is_held in zip(active, answers[::2], answers[1::2], strict=True)
            if fields[0] is not None and fields[0].decode() in list(JobKind)
        ]

    async def count_active(self) -> Counter[tuple[Priority, JobState]]:
        """Return how many jobs are queued and running, by priority."""
        pipeline, active = self.redis.pipeline(transaction=False), await self.list_active()
        for job in active:
            pipeline.hmget(redis_keys.job(*job), "priority", "state")
        states = await call_redis(pipeline.execute) if active else []
        return Counter((Priority(p.decode()), JobState(s.decode())) for p, s in states if p and s)

    async def list_published(self, tenant: str, job_id: str) -> list[PublishedChunk]:
        """Return the published chunks, in order."""
        key = redis_keys.job_chunks(tenant, job_id)
        return [decode_chunk(text) for text in await call_redis(lambda: self.redis.lrange(key, 0, -1))]

    # Changes that workers make. A method that takes an attempt returns False if the attempt holds the job no more.

    async def begin(
        self,
        tenant: str,
        job_id: str,
        previous: JobAttempt | None = None,
        previous_error: JobError | None = None,
        *,
        token: str,
    ) -> JobAttempt | None:
        """Begin an attempt: count it and take the fencing token.

        previous: the attempt of this worker to go on from; None: there was none.
        previous_error: why that attempt failed; None: its worker died.
        token: random. A repeated call with the same token, as after a lost answer, is the same attempt and counts once.

        Returns None if the job has ended, if it fails now because all attempts are used up, or if another worker
        began it since `previous`.
        """
        try:
            job = await self.get(tenant, job_id)
        except JobNotFound:
            return None
        error = previous_error or worker_died_error(job.chunks)
        answer = await self._run_script(
            lua_scripts.BEGIN, (tenant, job_id), active_member(tenant, job_id), self._ttl_s, time.time(), MAX_ATTEMPTS,
            orjson.dumps(asdict(error)).decode(), "" if previous is None else previous.fence,
            self._lease_ms, token, more_keys=(redis_keys.due_webhooks(),),
        )  # fmt: skip
        if answer == b"failed":
            self._on_end(job.kind, JobState.FAILED)
        if answer is None or answer == b"failed":
            return None
        fence, event = answer
        return JobAttempt(await self.get(tenant, job_id), int(fence), event.decode())

    async def renew_lease(self, attempt: JobAttempt, pause_s: float = 0.0) -> bool:
        """Keep other workers from beginning the job for a while, after a pause of the attempt."""
        return await self._run_held(lua_scripts.RENEW, attempt, self._lease_ms + int(1000 * pause_s))

    async def set_total(self, attempt: JobAttempt, total: int) -> bool:
        return await self._run_held(lua_scripts.SET_FIELDS, attempt, *to_hash_fields(total=total))

    async def publish(
        self, attempt: JobAttempt, chunk: int, published: PublishedChunk, rate_per_s: float
    ) -> bool:
        """Publish a chunk whose results are in the object store: from now on clients can read them."""
        fields = to_hash_fields(
            failures=published.failures, rate_per_s=rate_per_s, object_ends=published.object_ends.encode()
        )
        return await self._run_held(
            lua_scripts.PUBLISH, attempt, chunk, published.done, encode_chunk(published), *fields
        )

    async def succeed(self, attempt: JobAttempt) -> bool:
        return await self._end(attempt, JobState.SUCCEEDED)

    async def fail(self, attempt: JobAttempt, error: JobError) -> bool:
        return await self._end(attempt, JobState.FAILED, error)

    async def _end(self, attempt: JobAttempt, state: JobState, error: JobError | None = None) -> bool:
        member = active_member(attempt.job.tenant, attempt.job.job_id)
        fields = to_hash_fields(state=state, error=error, ended_at=time.time())
        held = await self._run_held(
            lua_scripts.END, attempt, member, self._ttl_s, *fields, more_keys=(redis_keys.due_webhooks(),)
        )
        if held:
            self._on_end(attempt.job.kind, state)
        return held

    async def release(self, attempt: JobAttempt, pause_s: float = 0.0) -> bool:
        """Give the job back unfinished, on purpose: the attempt does not count.

        pause_s: for so long, and a lease, no other worker begins it, since this one will go on with it.
        """
        hold_ms = self._lease_ms + int(1000 * pause_s) if pause_s else 0
        return await self._run_held(lua_scripts.RELEASE, attempt, hold_ms)

    async def _run_held(
        self, script: str, attempt: JobAttempt, *arguments: object, more_keys: tuple[str, ...] = ()
    ) -> bool:
        job = attempt.job.tenant, attempt.job.job_id
        return bool(await self._run_script(script, job, attempt.fence, *arguments, more_keys=more_keys))

    # Changes that users make.

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Cancel a job and return it. A job that has ended stays as it ended. Raises JobNotFound."""
        was_active = await self._run_script(
            lua_scripts.CANCEL,
            (tenant, job_id),
            active_member(tenant, job_id),
            self._ttl_s,
            time.time(),
            more_keys=(redis_keys.due_webhooks(),),
            replicated=True,
        )
        job = await self.get(tenant, job_id)
        if was_active:
            self._on_end(job.kind, JobState.CANCELLED)
        return job

    async def delete(self, tenant: str, job_id: str) -> bool:
        """Forget a job that has ended. Return False where it has not. Raises JobNotFound."""
        answer = await self._run_script(
            lua_scripts.DELETE,
            (tenant, job_id),
            job_id,
            more_keys=(redis_keys.jobs(tenant),),
            replicated=True,
        )
        if answer == b"gone":
            raise JobNotFound(job_id)
        return bool(answer == b"deleted")

    async def retry(self, tenant: str, job_id: str) -> Job:
        """Queue a failed or cancelled job again. Raises JobNotFound, BadInput if it is in another state, Busy."""
        answer = await self._run_script(
            lua_scripts.RETRY, (tenant, job_id), active_member(tenant, job_id), self._max_active,
            self._max_of_tenant(tenant), replicated=True,
        )  # fmt: skip
        if answer in (b"full", b"tenant_full"):
            raise self._too_many_jobs(answer, tenant)
        if not answer:
            job = await self.get(tenant, job_id)
            raise BadInput(
                f"The job is {job.state}: only what failed or was cancelled can be tried again.",
                field="job_id",
                remedy="Submit a new job.",
            )
        return await self.get(tenant, job_id)

    async def revise(self, job: Job, request_name: str, keep: int) -> Job:
        """Queue a job again for another request, and keep only its first `keep` chunks.

        job: the job as it was when the request was made from it.
        request_name: the name of the new request in the object store.

        Raises JobNotFound, Busy if the job was revised meanwhile or if too many jobs are active.
        """
        answer = await self._run_script(
            lua_scripts.REVISE, (job.tenant, job.job_id), active_member(job.tenant, job.job_id), job.revision, keep,
            self._max_active, self._max_of_tenant(job.tenant), request_name, replicated=True,
        )  # fmt: skip
        match answer:
            case b"gone":
                raise JobNotFound(job.job_id)
            case b"raced":
                raise Busy("Somebody else changed the job at the same moment.", retry_after_s=1)
            case b"full" | b"tenant_full":
                raise self._too_many_jobs(answer, job.tenant)
        return await self.get(job.tenant, job.job_id)


def worker_died_error(chunk: int) -> JobError:
    return JobError(
        "worker_died",
        f"The worker died {MAX_ATTEMPTS} times in a row on part {chunk + 1} of the job.",
        "Read the worker's log; often its memory ran out. Then POST /v1/jobs/{job_id}/retry goes on from there.",
    )


def encode_chunk(chunk: PublishedChunk) -> str:
    return f"{chunk.lines} {chunk.done} {chunk.failures} {chunk.revision} {chunk.object_ends.encode()}"


def decode_chunk(text: bytes) -> PublishedChunk:
    lines, done, failures, revision, *ends = text.decode().split()  # no ends: stored before there were any
    return PublishedChunk(
        int(lines), int(done), int(failures), int(revision), ObjectEnds.decode("".join(ends))
    )


def active_member(tenant: str, job_id: str) -> str:
    """Return the job's member of the set of active jobs."""
    return f"{tenant}/{job_id}"
