"""The job worker: takes jobs from the dockets, runs one of each priority at a time, and retries what failed for a
transient reason. It can die at any moment.

    docket -> begin (attempt, fencing token) -> chunk -> results stored -> chunk published -> next chunk ... -> end

The docket delivers a job again if its worker dies. `attempt_runner` runs one attempt, `retry_policy` has the limits,
`job_sweeper` finds lost jobs and deletes expired files.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from segserve.errors import JobNotFound, JobsUnavailable, SegserveError, Unavailable
from segserve.jobs.engine import retry_policy
from segserve.jobs.engine.attempt_runner import AttemptRunner
from segserve.jobs.engine.job import JobError, JobKind, JobState
from segserve.jobs.engine.job_kind_runner import JobKindRunner
from segserve.jobs.engine.job_queue import open_docket, perform
from segserve.jobs.engine.job_store import JobAttempt, JobStore
from segserve.jobs.engine.job_sweeper import JobSweeper
from segserve.jobs.engine.result_store import ResultStore
from segserve.jobs.engine.retry_policy import REDIS_RETRY_S, retry_until_redis_answers
from segserve.jobs.engine.stop_signal import JobStopped, StopSignal
from segserve.metrics import Metrics
from segserve.types import Priority

# How often a docket looks for jobs that are due.
MIN_CHECK_INTERVAL_MS = 100

if TYPE_CHECKING:
    from docket import Docket

log = structlog.get_logger(__name__)


class JobWorker:
    """`JobWorker` runs jobs until it is cancelled.

    url: of the jobs' Redis.
    runners: one for each kind of job.
    lease_s: a worker silent for this long loses its job.
    keep_s: age at which files of unknown jobs are deleted.
    """

    def __init__(
        self,
        url: str,
        store: JobStore,
        results: ResultStore,
        runners: Mapping[JobKind, JobKindRunner],
        metrics: Metrics,
        *,
        lease_s: float,
        keep_s: float,
    ) -> None:
        self._url, self._store = url, store
        self._lease = timedelta(seconds=lease_s)
        self._shutdown = StopSignal()
        self._attempts = AttemptRunner(store, results, runners, metrics, self._shutdown, lease_s)
        self._sweeper = JobSweeper(url, store, results, keep_s)

    async def run(self) -> None:
        """Run until cancelled; then give the running jobs back at once, unfinished."""
        tasks = [asyncio.create_task(self._serve(priority)) for priority in Priority]
        tasks.append(asyncio.create_task(self._sweeper.run()))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self._shutdown.set()
            self._attempts.stop_all()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, priority: Priority) -> None:
        """Take jobs of one priority. The docket's own worker swallows a cancellation and returns."""
        while not self._shutdown.is_set():
            docket = await asyncio.to_thread(open_docket, self._url, priority)
            docket.register(self.perform, names=[perform.__name__])
            with suppress(JobsUnavailable):
                await self._store.ping()
                await self._take_jobs(docket)
            await asyncio.sleep(REDIS_RETRY_S)

    async def _take_jobs(self, docket: "Docket") -> None:
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
                minimum_check_interval=timedelta(milliseconds=MIN_CHECK_INTERVAL_MS),
                schedule_automatic_tasks=False,
            ) as worker,
        ):
            await worker.run_forever()

    async def perform(self, tenant: str, job_id: str) -> None:
        """Run one job until it ends, is not wanted any more, or is given back."""
        previous: JobAttempt | None = None
        previous_error: JobError | None = None
        transient_failures = 0  # in a row, without a new chunk between them
        while True:
            attempt = await self._begin(tenant, job_id, previous, previous_error)
            if attempt is None:
                # The job may have been revised or retried during our pause.
                if previous is None or not await self._is_queued(tenant, job_id):
                    return
                previous = previous_error = None
                continue
            no_progress = previous is not None and attempt.job.chunks == previous.job.chunks
            transient_failures = transient_failures + 1 if no_progress else 0
            previous = attempt
            job_log = log.bind(job_id=job_id, kind=attempt.job.kind, attempt=attempt.job.attempts)
            try:
                await self._attempts.run(attempt)
            except asyncio.CancelledError:
                await asyncio.shield(self._release(attempt))
                raise
            except JobStopped:
                job_log.info("job stopped")
                if self._shutdown.is_set():
                    await self._release(attempt)
                    # Cancelled, the task stays in the docket, for the next worker.
                    raise asyncio.CancelledError from None
            except Unavailable as error:
                previous_error = to_job_error(error)
                job_log.warning("job interrupted", reason=str(error))
                if transient_failures < retry_policy.MAX_TRANSIENT_FAILURES:
                    await self._release(attempt)  # no attempt is lost over what others cannot do just now
                    await self._pause(retry_policy.backoff_s(transient_failures))
                    continue
                await self._attempts.end(attempt, JobState.FAILED, previous_error)
            except SegserveError as error:
                await self._attempts.end(attempt, JobState.FAILED, to_job_error(error))
            except Exception as error:
                previous_error = to_job_error(error)
                job_log.exception("job met an internal error")
                await self._pause(retry_policy.MIN_BACKOFF_S * attempt.job.attempts)
                continue
            # If the job was re-queued while we were still on it, its docket entry is the one we hold: run it again.
            if not await self._is_queued(tenant, job_id):
                return
            previous = previous_error = None

    async def _begin(
        self, tenant: str, job_id: str, previous: JobAttempt | None, previous_error: JobError | None
    ) -> JobAttempt | None:
        token = secrets.token_hex(8)
        return await retry_until_redis_answers(
            lambda: self._store.begin(tenant, job_id, previous, previous_error, token=token), self._shutdown
        )

    async def _is_queued(self, tenant: str, job_id: str) -> bool:
        try:
            job = await retry_until_redis_answers(lambda: self._store.get(tenant, job_id), self._shutdown)
        except JobNotFound:
            return False
        return job.state is JobState.QUEUED

    async def _release(self, attempt: JobAttempt) -> None:
        with suppress(SegserveError):
            await self._store.release(attempt)

    async def _pause(self, seconds: float) -> None:
        """Wait. Raises CancelledError if the worker shuts down: the job then stays in the docket."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._shutdown.is_set():
                raise asyncio.CancelledError
            await asyncio.sleep(min(left, REDIS_RETRY_S))


def to_job_error(error: Exception) -> JobError:
    if isinstance(error, SegserveError):
        return JobError.from_error(error)
    return JobError(
        "internal", f"The worker met an internal error: {type(error).__name__}.", "See the worker's log."
    )
