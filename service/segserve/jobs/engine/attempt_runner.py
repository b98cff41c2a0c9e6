"""One attempt at a job: its chunks are made in order, stored and published, while a lease keeps other workers away and
the job's events tell whether it was cancelled.

Batch jobs pause between two chunks while an interactive job runs in the same worker. A job that has run for its turn
ends it where a job of another tenant waits.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar

import structlog

from segserve.current_client import Client, current_client
from segserve.errors import BadInput, JobsUnavailable, SegserveError
from segserve.identity.identity import Identity, current_identity
from segserve.jobs.engine.job import Job, JobError, JobEvent, JobKind, JobState, PublishedChunk
from segserve.jobs.engine.job_kind_runner import Chunk, JobKindRunner, OpenJob
from segserve.jobs.engine.job_store import JobAttempt, JobStore
from segserve.jobs.engine.result_store import PublishedResults, ResultStore
from segserve.jobs.engine.retry_policy import REDIS_RETRY_S, retry_until_redis_answers
from segserve.jobs.engine.stop_signal import JobStopped, StopSignal
from segserve.metrics import Metrics
from segserve.types import AccessRole, Priority, UsageKind

# How often a job that has run for its turn looks whether other tenants wait.
TURN_CHECK_INTERVAL_S = 1.0

# Renewals of a job's lease within its length, so that a few may be late.
RENEWALS_PER_LEASE = 5

T = TypeVar("T")

log = structlog.get_logger(__name__)


class TurnEnded(Exception):
    """The job must make way for a job of another tenant, and go on later."""


class InteractiveGate:
    """`InteractiveGate` holds batch jobs back: it is open while no interactive job runs."""

    def __init__(self) -> None:
        self._running, self._open = 0, asyncio.Event()
        self._open.set()

    def enter(self) -> None:
        """An interactive job begins."""
        self._running += 1
        self._open.clear()

    def leave(self) -> None:
        """An interactive job has ended."""
        self._running -= 1
        if not self._running:
            self._open.set()

    async def wait(self) -> None:
        await self._open.wait()


class AttemptRunner:
    """`AttemptRunner` runs attempts at jobs.

    runners: one for each kind of job.
    shutdown: set when the worker shuts down.
    lease_s: a worker silent for this long loses its job.
    turn_s: a job that has run for this long makes way for other tenants'.
    """

    def __init__(
        self,
        store: JobStore,
        results: ResultStore,
        runners: Mapping[JobKind, JobKindRunner],
        metrics: Metrics,
        shutdown: StopSignal,
        lease_s: float,
        turn_s: float,
    ) -> None:
        self._store, self._results, self._runners, self._metrics = store, results, runners, metrics
        self._shutdown, self._lease_s, self._turn_s = shutdown, lease_s, turn_s
        self._gate = InteractiveGate()
        self._running: set[StopSignal] = set()

    def stop_all(self) -> None:
        """Stop all running attempts."""
        for stop in self._running:
            stop.set()

    async def run(self, attempt: JobAttempt) -> None:
        """Run an attempt until the job has succeeded.

        Raises JobStopped, TurnEnded, and every error of the job itself.
        """
        job, stop = attempt.job, StopSignal()
        # The worker acts for whoever submitted the job.
        current_identity.set(Identity(job.tenant, AccessRole.BATCH, job.submitted_by))
        current_client.set(Client(job.tenant))
        self._shutdown.raise_if_set()
        is_interactive = job.priority is Priority.INTERACTIVE
        watchers = [
            asyncio.create_task(watcher)
            for watcher in (self._watch_events(attempt, stop), self._renew_lease(attempt, stop))
        ]
        self._running.add(stop)
        if is_interactive:
            self._gate.enter()
        try:
            await self._run_job(attempt, stop)
        finally:
            if is_interactive:
                self._gate.leave()
            self._running.discard(stop)
            for task in watchers:
                task.cancel()
        await self.end(attempt, JobState.SUCCEEDED)

    async def end(self, attempt: JobAttempt, state: JobState, error: JobError | None = None) -> None:
        """End the job, if the attempt still holds it. error: why it failed; None: it succeeded."""
        if error is None:
            held = await self._retry(lambda: self._store.succeed(attempt))
        else:
            held = await self._retry(lambda: self._store.fail(attempt, error))
        if held:
            log.info("job ended", job_id=attempt.job.job_id, state=state, reason=error and error.message)

    async def _retry(self, call: Callable[[], Awaitable[T]]) -> T:
        return await retry_until_redis_answers(call, self._shutdown)

    async def _run_job(self, attempt: JobAttempt, stop: StopSignal) -> None:
        job = attempt.job
        request = await self._results.get_request(job)
        if request is None:
            raise BadInput(
                "The request of the job is no longer in the object store.", remedy="Submit the job again."
            )
        past = await self._read_published(job)
        open_job = await self._runners[job.kind].open(job, request, past)
        try:
            await self._run_chunks(attempt, open_job, past, stop)
        finally:
            await open_job.close()

    async def _read_published(self, job: Job) -> PublishedResults:
        """Raises JobStopped if the job was revised since the attempt began."""
        published = await self._retry(lambda: self._store.list_published(job.tenant, job.job_id))
        if len(published) != job.chunks:
            raise JobStopped
        return PublishedResults(self._results, job.tenant, job.job_id, published)

    async def _run_chunks(
        self, attempt: JobAttempt, open_job: OpenJob, past: PublishedResults, stop: StopSignal
    ) -> None:
        job = attempt.job
        if not await self._retry(lambda: self._store.set_total(attempt, open_job.total)):
            raise JobStopped
        done, failures, ends, started = job.done, job.failures, job.object_ends, time.monotonic()
        next_turn_check = started + self._turn_s
        while True:
            if job.priority is Priority.BATCH:
                await self._gate.wait()
            stop.raise_if_set()
            chunk_started = time.monotonic()
            chunk = await open_job.run_chunk(len(past), stop)
            if chunk is None:
                return
            done, failures = done + chunk.unit_count, failures + chunk.failures
            ends = ends.append(chunk.ends)
            line_count = past.line_count + len(chunk.lines)
            published = PublishedChunk(line_count, done, failures, job.revision, ends)
            # Published before the next chunk begins: if that one kills the worker, this one need not be made again.
            rate_per_s = (done - job.done) / (time.monotonic() - started)
            await self._publish(attempt, len(past), chunk, published, rate_per_s)
            if chunk.supersedes:
                await past.delete_state(len(past) - 1)
            past.append(published)
            seconds = time.monotonic() - chunk_started
            self._metrics.jobs.record_chunk(job.kind, chunk.unit_count, seconds)
            self._metrics.usage.count(job.tenant, UsageKind.JOB_SECONDS, seconds)
            if time.monotonic() > next_turn_check:
                with suppress(JobsUnavailable):
                    if await self._store.turns.is_over(job):
                        raise TurnEnded
                next_turn_check = time.monotonic() + TURN_CHECK_INTERVAL_S

    async def _publish(
        self, attempt: JobAttempt, number: int, chunk: Chunk, published: PublishedChunk, rate_per_s: float
    ) -> None:
        """Raises JobStopped if the attempt holds the job no more."""
        job = attempt.job
        await self._results.put_chunk(job.tenant, job.job_id, number, job.revision, chunk.lines, chunk.state)
        if not await self._retry(lambda: self._store.publish(attempt, number, published, rate_per_s)):
            raise JobStopped

    async def _watch_events(self, attempt: JobAttempt, stop: StopSignal) -> None:
        """Set `stop` when the job is cancelled, or when another worker has begun it."""
        job, after = attempt.job, attempt.event
        while True:
            try:
                async for event in self._store.events.follow(job.tenant, job.job_id, after, block=True):
                    if event is None:
                        continue
                    after = event.id
                    if is_attempt_lost(event, attempt):
                        stop.set()
                        return
                return
            except JobsUnavailable:
                await asyncio.sleep(REDIS_RETRY_S)
            except SegserveError:  # the job is not known any more
                stop.set()
                return

    async def _renew_lease(self, attempt: JobAttempt, stop: StopSignal) -> None:
        """Keep the job while it runs here; set `stop` if another worker has it."""
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS_PER_LEASE)
            with suppress(JobsUnavailable):
                if not await self._store.renew_lease(attempt):
                    stop.set()
                    return


def is_attempt_lost(event: JobEvent, attempt: JobAttempt) -> bool:
    return event.job.state.has_ended or event.fence != attempt.fence
