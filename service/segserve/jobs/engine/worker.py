"""The job worker: is woken by the dockets, runs one job of each priority at a time, and retries what failed for a
transient reason. It can die at any moment.

    docket -> turn -> begin (attempt, fencing token) -> chunk -> results stored -> chunk published -> ... -> end

A docket delivers the news that a job waits. Which job runs is for the turns of the tenants to say (`job_turns`); the
worker goes on until none waits. The docket delivers again if a worker dies meanwhile. `attempt_runner` runs one
attempt, `retry_policy` has the limits, `job_sweeper` finds lost jobs and deletes expired files.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from segserve.errors import JobsUnavailable, SegserveError, Unavailable
from segserve.jobs.engine import retry_policy
from segserve.jobs.engine.attempt_runner import AttemptRunner, TurnEnded
from segserve.jobs.engine.job import JobError, JobKind, JobState
from segserve.jobs.engine.job_kind_runner import JobKindRunner
from segserve.jobs.engine.job_queue import open_docket, perform
from segserve.jobs.engine.job_store import JobAttempt, JobStore
from segserve.jobs.engine.job_sweeper import SWEEP_INTERVAL_S, JobSweeper
from segserve.jobs.engine.job_turns import ActiveJob
from segserve.jobs.engine.result_store import ResultStore
from segserve.jobs.engine.retry_policy import REDIS_RETRY_S, retry_until_redis_answers
from segserve.jobs.engine.stop_signal import JobStopped, StopSignal
from segserve.metrics import Metrics
from segserve.types import Priority

# How often a docket looks for jobs that are due.
MIN_CHECK_INTERVAL_MS = 100

# The pause after another worker took a job at the same moment.
LOST_RACE_PAUSE_S = 0.1

if TYPE_CHECKING:
    from docket import Docket

log = structlog.get_logger(__name__)


class JobWorker:
    """`JobWorker` runs jobs until it is cancelled.

    url: of the jobs' Redis.
    runners: one for each kind of job.
    lease_s: a worker silent for this long loses its job.
    turn_s: a job that has run for this long makes way for other tenants'.
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
        turn_s: float,
        keep_s: float,
    ) -> None:
        self._url, self._store = url, store
        self._lease = timedelta(seconds=lease_s)
        self._shutdown = StopSignal()
        self._attempts = AttemptRunner(store, results, runners, metrics, self._shutdown, lease_s, turn_s)
        self._one_at_a_time = {priority: asyncio.Lock() for priority in Priority}
        self._sweeper = JobSweeper(url, store, results, keep_s)

    async def run(self) -> None:
        """Run until cancelled; then give the running jobs back at once, unfinished."""
        tasks = [asyncio.create_task(self._serve(priority)) for priority in Priority]
        tasks += [asyncio.create_task(self._look_again(priority)) for priority in Priority]
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
            docket.register(self._answer_docket(priority), names=[perform.__name__])
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

    def _answer_docket(self, priority: Priority) -> Callable[[str, str], Awaitable[None]]:
        """Return the task that the docket of a priority runs."""

        async def run_jobs(tenant: str, job_id: str) -> None:
            await self.run_waiting(priority)

        return run_jobs

    async def _look_again(self, priority: Priority) -> None:
        """Run jobs that wait although no docket will tell, now and then.

        A docket does not take a job again while a worker that it was delivered to still runs others.
        """
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await self.run_waiting(priority)
            except Exception:
                log.exception("jobs that wait cannot be run")

    async def run_waiting(self, priority: Priority) -> None:
        """Run jobs, one after the other, until none waits. Raises CancelledError if the worker shuts down."""
        async with self._one_at_a_time[priority]:
            try:
                while (job := await self._find_next(priority)) is not None:
                    if not await self._run_job(job.tenant, job.job_id):
                        await asyncio.sleep(LOST_RACE_PAUSE_S)
            except JobStopped:  # while the jobs' Redis is away
                raise asyncio.CancelledError from None

    async def _find_next(self, priority: Priority) -> ActiveJob | None:
        return await retry_until_redis_answers(lambda: self._store.turns.find_next(priority), self._shutdown)

    async def _run_job(self, tenant: str, job_id: str) -> bool:
        """Run one job until it ends, its turn does, it is not wanted any more, or is given back.

        Returns False if it was not to be had: another worker has begun it.
        """
        previous: JobAttempt | None = None
        previous_error: JobError | None = None
        transient_failures = 0  # in a row, without a new chunk between them
        while True:
            attempt = await self._begin(tenant, job_id, previous, previous_error)
            if attempt is None:  # the job may have been revised or retried during our pause; then it waits
                return previous is not None
            if previous is None:
                with suppress(JobsUnavailable):
                    await self._store.turns.note(attempt.job)
            no_progress = previous is not None and attempt.job.chunks == previous.job.chunks
            transient_failures = transient_failures + 1 if no_progress else 0
            previous = attempt
            job_log = log.bind(job_id=job_id, kind=attempt.job.kind, attempt=attempt.job.attempts)
            try:
                await self._attempts.run(attempt)
            except asyncio.CancelledError:
                await asyncio.shield(self._release(attempt))
                raise
            except TurnEnded:
                job_log.info("job makes way for another tenant's")
                await self._release(attempt)
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
                    pause_s = retry_policy.backoff_s(transient_failures)
                    await self._release(
                        attempt, pause_s
                    )  # no attempt is lost over what others cannot do just now
                    await self._pause(attempt, pause_s)
                    continue
                await self._attempts.end(attempt, JobState.FAILED, previous_error)
            except SegserveError as error:
                await self._attempts.end(attempt, JobState.FAILED, to_job_error(error))
            except Exception as error:
                previous_error = to_job_error(error)
                job_log.exception("job met an internal error")
                pause_s = retry_policy.MIN_BACKOFF_S * attempt.job.attempts
                with suppress(JobsUnavailable):
                    await self._store.renew_lease(attempt, pause_s)
                await self._pause(attempt, pause_s)
                continue
            return True

    async def _begin(
        self, tenant: str, job_id: str, previous: JobAttempt | None, previous_error: JobError | None
    ) -> JobAttempt | None:
        token = secrets.token_hex(8)
        return await retry_until_redis_answers(
            lambda: self._store.begin(tenant, job_id, previous, previous_error, token=token), self._shutdown
        )

    async def _release(self, attempt: JobAttempt, pause_s: float = 0.0) -> None:
        with suppress(SegserveError):
            await self._store.release(attempt, pause_s)

    async def _pause(self, attempt: JobAttempt, seconds: float) -> None:
        """Wait, and keep the job. Raises CancelledError if the worker shuts down: the job is then given back."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                if self._shutdown.is_set():
                    raise asyncio.CancelledError
                await asyncio.sleep(min(left, REDIS_RETRY_S))
        except asyncio.CancelledError:
            await asyncio.shield(self._release(attempt))
            raise


def to_job_error(error: Exception) -> JobError:
    if isinstance(error, SegserveError):
        return JobError.from_error(error)
    return JobError(
        "internal", f"The worker met an internal error: {type(error).__name__}.", "See the worker's log."
    )
