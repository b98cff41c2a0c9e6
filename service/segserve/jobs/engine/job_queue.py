"""Jobs as users see them: submit, look, follow, cancel, try again.

A submitted job lies in the object store (what was asked), in the ledger (its state) and in the docket of its class,
in this order: what a crash leaves behind in the first two is found again by the workers' sweep.
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
from segserve.jobs.engine.job import Job, JobEvent, JobKind, JobState
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.engine.result_store import PublishedResults, ResultStore
from segserve.types import Priority

if TYPE_CHECKING:
    from docket import Docket

ADD_TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


async def perform(tenant: str, job_id: str) -> None:
    """What dockets call the work; the worker puts its own in this place."""
    raise NotImplementedError


def open_docket(url: str, priority: Priority) -> "Docket":
    """Interactive and batch jobs wait in queues of their own. What has ended is not remembered here: the ledger
    does. Blocks the first time."""
    from docket import Docket  # half a second, which no command without jobs is to wait for

    return Docket(f"segserve-{priority}", url, execution_ttl=timedelta(0))


class Dockets:
    """The dockets of the classes, connected when first needed: a Redis that is away does not keep a service from
    starting."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: dict[Priority, Docket] = {}
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def add(self, priority: Priority, tenant: str, job_id: str) -> None:
        """Nothing happens where it waits or runs already. Raises JobsUnavailable."""
        try:
            async with (
                asyncio.timeout(ADD_TIMEOUT_S),
                self._opening,
            ):  # docket's own connections wait for ever
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
    """wake: called when there is something to do, for a worker that waits for its first job."""

    def __init__(
        self, ledger: JobStore, dockets: Dockets, results: ResultStore, wake: Callable[[], None] | None = None
    ) -> None:
        self._ledger, self._dockets, self._results = ledger, dockets, results
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
        """request, webhook: checked. Raises Busy, JobsUnavailable, BadInput where the key stood for another request."""
        job_id, now = secrets.token_urlsafe(12), time.time()
        job = Job(tenant, job_id, kind, priority, model, JobState.QUEUED, now, webhook=webhook)
        await self._results.put_request(tenant, job.job_id, job.request_name, request)
        try:
            job_id = await self._ledger.submit(job, request, idempotency_key)
        except (BadInput, Busy):
            await self._results.delete_job(tenant, job.job_id)
            raise
        if job_id != job.job_id:
            await self._results.delete_job(tenant, job.job_id)
        found = await self._ledger.get(tenant, job_id)
        if not found.state.has_ended:
            await self._deliver(found)
        return found

    async def _deliver(self, job: Job) -> None:
        try:
            await self._dockets.add(job.priority, job.tenant, job.job_id)
        except JobsUnavailable:  # it is in the ledger: a sweep will bring it
            log.warning("job not delivered yet", job_id=job.job_id)
        if self._wake is not None:
            self._wake()

    async def get(self, tenant: str, job_id: str) -> Job:
        """Raises JobNotFound, as all that follow."""
        return await self._ledger.get(tenant, job_id)

    async def list_recent(self, tenant: str) -> list[Job]:
        """The newest first."""
        return await self._ledger.list_recent(tenant)

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Workers hear of it by its event; what waits in a docket will find nothing to do."""
        return await self._ledger.cancel(tenant, job_id)

    async def retry(self, tenant: str, job_id: str) -> Job:
        """On from the last published chunk. Raises BadInput where it has not failed, Busy."""
        job = await self._ledger.retry(tenant, job_id)
        await self._deliver(job)
        return job

    def follow(self, tenant: str, job_id: str, after: str = "0") -> AsyncIterator[JobEvent | None]:
        """What happened after the event `after`, and what happens until the job has ended; None now and then, when
        nothing does. Raises BadInput where `after` is no event's id, JobsUnavailable."""
        return self._ledger.follow(tenant, job_id, after)

    async def read_results(self, tenant: str, job_id: str, after: int = 0) -> AsyncIterator[bytes]:
        """The lines that are published now, but for the first `after`. Raises JobNotFound."""
        await self._ledger.get(tenant, job_id)
        published = await self._ledger.list_published(tenant, job_id)
        return PublishedResults(self._results, tenant, job_id, published).read_lines(after)

    async def read_request(self, job: Job) -> bytes:
        """What the job was asked. Raises JobNotFound where that is gone."""
        found = await self._results.get_request(job)
        if found is None:
            raise JobNotFound(job.job_id)
        return found

    async def revise(self, job: Job, request: bytes, keep: int) -> Job:
        """Ask a job for more, whatever its state: it goes on after its first `keep` chunks. job: as `request` was made
        from it. request: the whole of it, checked. Raises Busy where somebody else revised it meanwhile, or jobs are
        too many; JobNotFound, JobsUnavailable."""
        asked = secrets.token_hex(8)
        await self._results.put_request(job.tenant, job.job_id, asked, request)
        try:
            revised = await self._ledger.revise(job, asked, keep)
        except (Busy, JobNotFound):
            await self._results.delete_request(job.tenant, job.job_id, asked)
            raise
        await self._deliver(revised)
        return revised
