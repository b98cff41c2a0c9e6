"""The job queue as users see it: submit, follow, cancel, retry and revise jobs, and read their results.

A submitted job is written to the object store (its request), to the job store (its state) and to the docket of its
priority, in this order. After a crash between two of these, the workers' sweep (`job_sweeper`) finds the job again.

A docket is a Redis task queue of the library pydocket. It delivers a job to one worker, and again to another if that
one dies.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from redis.exceptions import RedisError

from segserve.errors import BadInput, Busy, JobNotFound, JobsUnavailable
from segserve.identity.identity import current_identity
from segserve.jobs.engine.job import Job, JobEvent, JobKind, JobState
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.engine.result_store import PublishedResults, ResultStore
from segserve.types import Priority

if TYPE_CHECKING:
    from docket import Docket

# How long adding a job to a docket may take: docket's own connections would wait for ever.
ADD_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


async def perform(tenant: str, job_id: str) -> None:
    """The task that dockets store by its name. Workers register their own function under this name."""
    raise NotImplementedError


def open_docket(url: str, priority: Priority) -> "Docket":
    """Return the docket of a priority: interactive and batch jobs have separate queues.

    The docket keeps no record of ended tasks, because the job store does. Blocks the first time.
    """
    # Imported here: it takes half a second, and commands without jobs need not wait for it.
    from docket import Docket

    return Docket(f"segserve-{priority}", url, execution_ttl=timedelta(0))


class Dockets:
    """`Dockets` adds jobs to the docket of their priority.

    It connects when it is first used, so that a service starts even while the jobs' Redis is away.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: dict[Priority, Docket] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def add(self, priority: Priority, tenant: str, job_id: str) -> None:
        """Add a job. Nothing happens if it waits or runs there already. Raises JobsUnavailable."""
        try:
            async with asyncio.timeout(ADD_TIMEOUT_S), self._opening:
                if priority not in self._open:
                    docket = await asyncio.to_thread(open_docket, self._url, priority)
                    self._open[priority] = await self._stack.enter_async_context(docket)
            async with asyncio.timeout(ADD_TIMEOUT_S):
                await self._open[priority].add(perform, key=f"{tenant}/{job_id}")(tenant, job_id)
        except (RedisError, OSError, TimeoutError) as error:
            raise JobsUnavailable from error

    async def close(self) -> None:
        await self._stack.aclose()


class JobQueue:
    """`JobQueue` is what the REST and gRPC routes use.

    wake: called when there is work, for an embedded worker that waits for its first job.

    Every method but `submit` raises JobNotFound for an unknown job. All raise JobsUnavailable.
    """

    def __init__(
        self,
        store: JobStore,
        dockets: Dockets,
        results: ResultStore,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._store, self._dockets, self._results = store, dockets, results
        self._wake = wake

    async def submit(
        self,
        tenant: str,
        kind: JobKind,
        priority: Priority,
        model: str,
        request: bytes,
        idempotency_key: str | None = None,
        webhook: str | None = None,
    ) -> Job:
        """Submit a job, or return the earlier job with the same idempotency key.

        request, webhook: must be checked before.

        Raises Busy, BadInput if the key came with another request before.
        """
        await self._store.ping()  # before anything is stored: each attempt would leave a request behind
        job_id, now = secrets.token_urlsafe(12), time.time()
        job = Job(
            tenant,
            job_id,
            kind,
            priority,
            model,
            JobState.QUEUED,
            now,
            webhook=webhook,
            submitted_by=current_identity.get().name,
        )
        await self._results.put_request(tenant, job.job_id, job.request_name, request)
        try:
            job_id = await self._store.submit(job, request, idempotency_key)
        except (BadInput, Busy):
            await self._results.delete_job(tenant, job.job_id)
            raise
        if job_id != job.job_id:
            await self._results.delete_job(tenant, job.job_id)
        stored = await self._store.get(tenant, job_id)
        if not stored.state.has_ended:
            await self._deliver(stored)
        return stored

    async def _deliver(self, job: Job) -> None:
        try:
            await self._dockets.add(job.priority, job.tenant, job.job_id)
        except JobsUnavailable:  # the job is in the store: a sweep will deliver it
            log.warning("job not delivered yet", job_id=job.job_id)
        if self._wake is not None:
            self._wake()

    async def get(self, tenant: str, job_id: str) -> Job:
        return await self._store.get(tenant, job_id)

    async def list_recent(self, tenant: str) -> list[Job]:
        """Return the newest jobs, the newest first."""
        return await self._store.list_recent(tenant)

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Cancel a job. Its worker learns of it from the event; if it waits in a docket, a worker will skip it."""
        return await self._store.cancel(tenant, job_id)

    async def delete(self, tenant: str, job_id: str) -> Job | None:
        """Delete a job that has ended, with its results, and return None; cancel another one and return it.

        A webhook of its end that is not delivered yet is never sent. Raises JobNotFound.
        """
        if not await self._store.delete(tenant, job_id):
            job = await self._store.cancel(tenant, job_id)
            if job.state is JobState.CANCELLED or not await self._store.delete(tenant, job_id):
                return job
        # A crash here leaves files without a job, which a sweep deletes.
        await self._results.delete_job(tenant, job_id)
        return None

    async def retry(self, tenant: str, job_id: str) -> Job:
        """Go on with a failed or cancelled job after its last published chunk.

        Raises BadInput if the job is in another state, Busy.
        """
        job = await self._store.retry(tenant, job_id)
        await self._deliver(job)
        return job

    def follow(self, tenant: str, job_id: str, after: str = "0") -> AsyncIterator[JobEvent | None]:
        """Yield the events after the event `after` until the job has ended; None now and then when nothing happens.

        Raises BadInput if `after` is not the id of an event.
        """
        return self._store.events.follow(tenant, job_id, after)

    async def read_results(self, tenant: str, job_id: str, after: int = 0) -> AsyncIterator[bytes]:
        """Return the result lines that are published now, without the first `after`."""
        await self._store.get(tenant, job_id)
        published = await self._store.list_published(tenant, job_id)
        return PublishedResults(self._results, tenant, job_id, published).read_lines(after)

    async def read_request(self, job: Job) -> bytes:
        """Return the latest request of the job. Raises JobNotFound if it is gone."""
        request = await self._results.get_request(job)
        if request is None:
            raise JobNotFound(job.job_id)
        return request

    async def revise(self, job: Job, request: bytes, keep: int) -> Job:
        """Give a job another request, in whatever state it is; it goes on after its first `keep` chunks.

        job: the job as it was when `request` was made from it.
        request: the whole new request, checked.

        Raises Busy if somebody else revised the job meanwhile or if too many jobs are active.
        """
        request_name = secrets.token_hex(8)
        await self._results.put_request(job.tenant, job.job_id, request_name, request)
        try:
            revised = await self._store.revise(job, request_name, keep)
        except (Busy, JobNotFound):
            await self._results.delete_request(job.tenant, job.job_id, request_name)
            raise
        await self._deliver(revised)
        return revised
