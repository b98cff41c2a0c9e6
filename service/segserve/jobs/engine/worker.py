"""What runs jobs: it takes one of each class at a time, works chunk by chunk, and can die at any moment.

    docket (delivers, again if a worker dies) -> begin (attempt, fence) -> chunk -> results stored -> published -> ...

Batch jobs stand still between two chunks while an interactive one runs here.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import structlog

from segserve.errors import BadInput, JobNotFound, JobsUnavailable, SegserveError, Unavailable
from segserve.jobs.engine import retry_policy
from segserve.jobs.engine.job import Job, JobError, JobEvent, JobKind, JobState, PublishedChunk
from segserve.jobs.engine.job_kind_runner import Chunk, JobKindRunner, OpenJob
from segserve.jobs.engine.job_queue import Dockets, open_docket, perform
from segserve.jobs.engine.job_store import JobAttempt, JobStore
from segserve.jobs.engine.result_store import PublishedResults, ResultStore
from segserve.jobs.engine.retry_policy import REDIS_RETRY_S
from segserve.jobs.engine.stop_signal import JobStopped, StopSignal
from segserve.metrics import Metrics
from segserve.types import DEFAULT_TENANT, Priority

SWEEP_S = 30.0
FORGET_EVERY_S = 3600.0
RENEWALS = 5  # of a job's lease, while it lasts

if TYPE_CHECKING:
    from docket import Docket

T = TypeVar("T")

log = structlog.get_logger(__name__)


def to_job_error(error: Exception) -> JobError:
    if isinstance(error, SegserveError):
        return JobError.from_error(error)
    return JobError(
        "internal", f"The worker met an error of its own: {type(error).__name__}.", "See its log."
    )


class Gate:
    """Open while no interactive job runs."""

    def __init__(self) -> None:
        self._inside, self._open = 0, asyncio.Event()
        self._open.set()

    def enter(self) -> None:
        self._inside += 1
        self._open.clear()

    def leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            self._open.set()

    async def wait(self) -> None:
        await self._open.wait()


class JobWorker:
    """url: of the jobs' Redis. works: how each kind is done. lease_s: after so long the job of a silent worker is
    another's. keep_s: how long files are kept of which the ledger knows no job."""

    def __init__(
        self,
        url: str,
        ledger: JobStore,
        results: ResultStore,
        works: Mapping[JobKind, JobKindRunner],
        metrics: Metrics,
        *,
        lease_s: float,
        keep_s: float,
    ) -> None:
        self._keep_s = keep_s
        self._url, self._ledger, self._results = url, ledger, results
        self._lease = timedelta(seconds=lease_s)
        self._works, self._metrics = works, metrics
        self._gate = Gate()
        self._running: set[StopSignal] = set()
        self._ending = False

    async def run(self) -> None:
        """Until cancelled; then what runs is given back at once, unfinished."""
        tasks = [asyncio.create_task(self._serve(priority)) for priority in Priority]
        tasks.append(asyncio.create_task(self._sweep()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self._ending = True
            for stop in self._running:
                stop.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, priority: Priority) -> None:
        while not self._ending:  # a docket's worker takes a cancellation for itself and returns
            docket = await asyncio.to_thread(open_docket, self._url, priority)
            docket.register(self.perform, names=[perform.__name__])
            with suppress(JobsUnavailable):
                await self._ledger.ping()
                await self._deliver(docket)
            await asyncio.sleep(REDIS_RETRY_S)

    async def _deliver(self, docket: "Docket") -> None:
        from docket import Worker

        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        async with (
            docket,
            Worker(
                docket,
                name=name,
                concurrency=1,
                redelivery_timeout=self._lease,
                reconnection_delay=timedelta(seconds=REDIS_RETRY_S),
                minimum_check_interval=timedelta(milliseconds=100),
                schedule_automatic_tasks=False,
            ) as worker,
        ):
            await worker.run_forever()

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Until the jobs' Redis answers: it may be away for a while, and what was worked is not lost for that. Raises
        Stopped where this worker is to end."""
        while True:
            try:
                return await call()
            except JobsUnavailable:
                if self._ending:
                    raise JobStopped from None
                await asyncio.sleep(REDIS_RETRY_S)

    async def perform(self, tenant: str, job_id: str) -> None:
        """One job, until it ends, is not wanted any more, or is given back."""
        after: JobAttempt | None = None
        last: JobError | None = None
        transient_failures = 0  # interruptions in a row that were not the job's fault
        while True:
            start = await self._begin(tenant, job_id, after, last)
            if start is None:
                # Revised or retried in the pause?
                if after is None or not await self._wanted(tenant, job_id):
                    return
                after = last = None
                continue
            no_progress = after is not None and start.job.chunks == after.job.chunks
            transient_failures = transient_failures + 1 if no_progress else 0
            after = start
            job_log = log.bind(job_id=job_id, kind=start.job.kind, attempt=start.job.attempts)
            try:
                await self._work(start)
            except asyncio.CancelledError:
                await asyncio.shield(self._release(start))
                raise
            except JobStopped:
                job_log.info("job stopped")
                if self._ending:  # it stays in the docket, for the next worker
                    await self._release(start)
                    raise asyncio.CancelledError from None
            except Unavailable as error:
                last = to_job_error(error)
                job_log.warning("job interrupted", reason=str(error))
                if transient_failures < retry_policy.MAX_TRANSIENT_FAILURES:
                    await self._release(start)  # no attempt is lost over what others cannot do just now
                    await self._pause(retry_policy.backoff_s(transient_failures))
                    continue
                await self._end(start, JobState.FAILED, last)
            except SegserveError as error:
                await self._end(start, JobState.FAILED, to_job_error(error))
            except Exception as error:
                last = to_job_error(error)
                job_log.exception("job met an error of ours")
                await self._pause(retry_policy.MIN_BACKOFF_S * start.job.attempts)
                continue
            # Cancelled or failed, and wanted again before that was noticed here: its place in the docket is this one.
            if not await self._wanted(tenant, job_id):
                return
            after = last = None

    async def _wanted(self, tenant: str, job_id: str) -> bool:
        try:
            job = await self._insist(lambda: self._ledger.get(tenant, job_id))
        except JobNotFound:
            return False
        return job.state is JobState.QUEUED

    async def _pause(self, seconds: float) -> None:
        """Raises CancelledError where this worker is to end: the job stays in the docket."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._ending:
                raise asyncio.CancelledError
            await asyncio.sleep(min(left, REDIS_RETRY_S))

    async def _begin(
        self, tenant: str, job_id: str, after: JobAttempt | None, last: JobError | None
    ) -> JobAttempt | None:
        token = secrets.token_hex(8)
        return await self._insist(lambda: self._ledger.begin(tenant, job_id, after, last, token=token))

    async def _release(self, start: JobAttempt) -> None:
        with suppress(SegserveError):
            await self._ledger.release(start)

    async def _work(self, start: JobAttempt) -> None:
        """Raises Stopped, and what the work itself raises."""
        job, stop = start.job, StopSignal()
        if self._ending:
            raise JobStopped
        interactive = job.priority is Priority.INTERACTIVE
        beside = [asyncio.create_task(work) for work in (self._watch(start, stop), self._renew(start, stop))]
        self._running.add(stop)
        if interactive:
            self._gate.enter()
        try:
            request = await self._results.get_request(job)
            if request is None:
                raise BadInput(
                    "What the job was asked is no longer in the object store.", remedy="Submit the job again."
                )
            past = await self._past(job)
            opened = await self._works[job.kind].open(job, request, past)
            try:
                await self._chunks(start, opened, past, stop)
            finally:
                await opened.close()
        finally:
            if interactive:
                self._gate.leave()
            self._running.discard(stop)
            for task in beside:
                task.cancel()
        await self._end(start, JobState.SUCCEEDED)

    async def _past(self, job: Job) -> PublishedResults:
        """Raises Stopped where it was revised since it began."""
        published = await self._insist(lambda: self._ledger.list_published(job.tenant, job.job_id))
        if len(published) != job.chunks:
            raise JobStopped
        return PublishedResults(self._results, job.tenant, job.job_id, published)

    async def _chunks(
        self, start: JobAttempt, opened: OpenJob, past: PublishedResults, stop: StopSignal
    ) -> None:
        job = start.job
        if not await self._insist(lambda: self._ledger.set_total(start, opened.total)):
            raise JobStopped
        done, failures, begun = job.done, job.failures, time.monotonic()
        while True:
            if job.priority is Priority.BATCH:
                await self._gate.wait()
            stop.raise_if_set()
            chunk_begun = time.monotonic()
            chunk = await opened.run_chunk(len(past), stop)
            if chunk is None:
                return
            done, failures = done + chunk.unit_count, failures + chunk.failures
            lines = past.line_count + len(chunk.lines)
            # Before the next one begins: should that one end the worker, this one is not to be made again.
            ends = PublishedChunk(lines, done, failures, job.revision)
            await self._publish(start, len(past), chunk, ends, (done - job.done) / (time.monotonic() - begun))
            if chunk.supersedes:
                await past.delete_state(len(past) - 1)
            past.append(ends)
            self._metrics.job_chunk(job.kind, chunk.unit_count, time.monotonic() - chunk_begun)

    async def _publish(
        self, start: JobAttempt, number: int, chunk: Chunk, ends: PublishedChunk, rate: float
    ) -> None:
        job = start.job
        await self._results.put_chunk(job.tenant, job.job_id, number, job.revision, chunk.lines, chunk.state)
        if not await self._insist(lambda: self._ledger.publish(start, number, ends, rate)):
            raise JobStopped

    async def _end(self, start: JobAttempt, state: JobState, error: JobError | None = None) -> None:
        if error is None:
            held = await self._insist(lambda: self._ledger.succeed(start))
        else:
            held = await self._insist(lambda: self._ledger.fail(start, error))
        if held:
            log.info("job ended", job_id=start.job.job_id, state=state, reason=error and error.message)

    async def _watch(self, start: JobAttempt, stop: StopSignal) -> None:
        """Tell `stop` when the job is cancelled or another worker has begun it."""
        job, after = start.job, start.event
        while True:
            try:
                async for event in self._ledger.follow(job.tenant, job.job_id, after, block=True):
                    if event is None:
                        continue
                    after = event.id
                    if attempt_is_lost(event, start):
                        stop.set()
                        return
                return
            except JobsUnavailable:
                await asyncio.sleep(REDIS_RETRY_S)
            except SegserveError:  # the job is not known any more
                stop.set()
                return

    async def _renew(self, start: JobAttempt, stop: StopSignal) -> None:
        """Hold the job while it runs here; tell `stop` where another worker has it."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / RENEWALS)
            with suppress(JobsUnavailable):
                if not await self._ledger.renew_lease(start):
                    stop.set()
                    return

    async def _sweep(self) -> None:
        """Put what is queued or running into its docket, where it is not already: a crash, or a Redis that lost
        its last second, may have left it out. And delete the files of jobs that are not known any more."""
        dockets = Dockets(self._url)
        forget_at = 0.0
        try:
            while True:
                with suppress(JobsUnavailable):
                    for tenant, job_id in await self._ledger.list_active():
                        await self._bring(dockets, tenant, job_id)
                if time.monotonic() > forget_at:
                    with suppress(SegserveError):
                        await self._forget(DEFAULT_TENANT)
                    forget_at = time.monotonic() + FORGET_EVERY_S
                await asyncio.sleep(SWEEP_S)
        finally:
            await dockets.close()

    async def _bring(self, dockets: Dockets, tenant: str, job_id: str) -> None:
        try:
            job = await self._ledger.get(tenant, job_id)
            await dockets.add(job.priority, tenant, job_id)
        except JobsUnavailable:
            raise
        except (
            SegserveError,
            ValueError,
        ) as error:  # gone meanwhile, or of a kind that a newer version knows
            log.warning("job passed over", job_id=job_id, reason=str(error))

    async def _forget(self, tenant: str) -> None:
        """Delete what is older than the ledger remembers."""
        for job_id in await self._results.list_older_than(tenant, self._keep_s):
            try:
                await self._ledger.get(tenant, job_id)
            except JobNotFound:
                await self._results.delete_job(tenant, job_id)


def attempt_is_lost(event: JobEvent, start: JobAttempt) -> bool:
    return event.job.state.has_ended or event.fence != start.fence
