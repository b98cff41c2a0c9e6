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
from typing import NoReturn, TypeVar

import structlog
from docket import Docket, Worker

from segserve.errors import JobNotFound, JobsUnavailable, SegserveError, Unavailable
from segserve.jobs.job import Event, JobError, Kind, State
from segserve.jobs.ledger import Ledger, Start
from segserve.jobs.queue import Dockets, open_docket, perform
from segserve.jobs.results import Results
from segserve.jobs.work import Chunk, Opened, Stop, Stopped, Work
from segserve.metrics import Metrics
from segserve.types import DEFAULT_TENANT, Priority

REDIS_RETRY_S = 0.5
RETRY_S = 2.0  # times the attempt: before what failed for a passing reason is tried again
SWEEP_S = 30.0
FORGET_S = 3600.0  # younger files may be of a job that is just being submitted

T = TypeVar("T")

log = structlog.get_logger(__name__)


def told(error: Exception) -> JobError:
    if isinstance(error, SegserveError):
        return JobError(error.code, error.message, error.remedy, error.field)
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
    another's."""

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        results: Results,
        works: Mapping[Kind, Work],
        metrics: Metrics,
        *,
        lease_s: float,
    ) -> None:
        self._url, self._ledger, self._results = url, ledger, results
        self._lease = timedelta(seconds=lease_s)
        self._works, self._metrics = works, metrics
        self._gate = Gate()
        self._running: set[Stop] = set()
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
                stop.tell()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, priority: Priority) -> None:
        while not self._ending:  # a docket's worker takes a cancellation for itself and returns
            docket = open_docket(self._url, priority)
            docket.register(self.perform, names=[perform.__name__])
            with suppress(JobsUnavailable):
                await self._ledger.ping()
                await self._deliver(docket)
            await asyncio.sleep(REDIS_RETRY_S)

    async def _deliver(self, docket: Docket) -> None:
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
                    raise Stopped from None
                await asyncio.sleep(REDIS_RETRY_S)

    async def perform(self, tenant: str, job_id: str) -> None:
        """One job, until it ends, is not wanted any more, or is given back."""
        after: Start | None = None
        last: JobError | None = None
        while (start := await self._begin(tenant, job_id, after, last)) is not None:
            after = start
            job_log = log.bind(job_id=job_id, kind=start.job.kind, attempt=start.job.attempts)
            try:
                await self._work(start)
                return
            except Stopped:
                if self._ending:
                    await self._give_back(start)
                job_log.info("job stopped")
                # Cancelled, and wanted again before this was noticed: its place in the docket is the one held here.
                if (await self._insist(lambda: self._ledger.get(tenant, job_id))).state is not State.QUEUED:
                    return
                after = last = None
                continue
            except Unavailable as error:
                last = told(error)
                job_log.warning("job interrupted", reason=str(error))
            except SegserveError as error:
                await self._end(start, State.FAILED, told(error))
                return
            except Exception as error:
                last = told(error)
                job_log.exception("job met an error of ours")
            await asyncio.sleep(RETRY_S * start.job.attempts)

    async def _begin(
        self, tenant: str, job_id: str, after: Start | None, last: JobError | None
    ) -> Start | None:
        return await self._insist(lambda: self._ledger.begin(tenant, job_id, after, last))

    async def _give_back(self, start: Start) -> NoReturn:
        """Not done: it stays in the docket, for the next worker."""
        with suppress(SegserveError):
            await self._ledger.release(start)
        raise asyncio.CancelledError

    async def _work(self, start: Start) -> None:
        """Raises Stopped, and what the work itself raises."""
        job, stop = start.job, Stop()
        if self._ending:
            raise Stopped
        interactive = job.priority is Priority.INTERACTIVE
        watching = asyncio.create_task(self._watch(start, stop))
        self._running.add(stop)
        if interactive:
            self._gate.enter()
        try:
            request = await self._results.request(job.tenant, job.job_id)
            if request is None:
                raise Stopped  # its files are gone: so is the job
            opened = await self._works[job.kind].open(job, request)
            try:
                await self._chunks(start, opened, stop)
            finally:
                await opened.close()
        finally:
            if interactive:
                self._gate.leave()
            self._running.discard(stop)
            watching.cancel()
        await self._end(start, State.SUCCEEDED)

    async def _chunks(self, start: Start, opened: Opened, stop: Stop) -> None:
        job = start.job
        if not await self._insist(lambda: self._ledger.note_total(start, opened.total)):
            raise Stopped
        number, done, failures, begun = job.chunks, job.done, job.failures, time.monotonic()
        while True:
            if job.priority is Priority.BATCH:
                await self._gate.wait()
            stop.check()
            chunk_begun = time.monotonic()
            chunk = await opened.chunk(number, stop)
            if chunk is None:
                return
            done, failures = done + len(chunk.lines), failures + chunk.failures
            # Before the next one begins: should that one end the worker, this one is not to be made again.
            await self._publish(
                start, number, chunk, done, failures, (done - job.done) / (time.monotonic() - begun)
            )
            self._metrics.job_chunk(job.kind, len(chunk.lines), time.monotonic() - chunk_begun)
            number += 1

    async def _publish(
        self, start: Start, number: int, chunk: Chunk, done: int, failures: int, rate: float
    ) -> None:
        await self._results.put_chunk(start.job.tenant, start.job.job_id, number, chunk.lines)
        if not await self._insist(lambda: self._ledger.publish(start, number, done, failures, rate)):
            raise Stopped

    async def _end(self, start: Start, state: State, error: JobError | None = None) -> None:
        if error is None:
            held = await self._insist(lambda: self._ledger.succeed(start))
        else:
            held = await self._insist(lambda: self._ledger.fail(start, error))
        if held:
            log.info("job ended", job_id=start.job.job_id, state=state, reason=error and error.message)

    async def _watch(self, start: Start, stop: Stop) -> None:
        """Tell `stop` when the job is cancelled or another worker has begun it."""
        job, after = start.job, start.event
        while True:
            try:
                async for event in self._ledger.follow(job.tenant, job.job_id, after, block=True):
                    if event is None:
                        continue
                    after = event.id
                    if lost(event, start):
                        stop.tell()
                        return
                return
            except JobsUnavailable:
                await asyncio.sleep(REDIS_RETRY_S)
            except SegserveError:  # the job is not known any more
                stop.tell()
                return

    async def _sweep(self) -> None:
        """Put what is queued or running into its docket, where it is not already: a crash, or a Redis that lost
        its last second, may have left it out. And delete the files of jobs that are not known any more."""
        dockets = Dockets(self._url)
        try:
            while True:
                with suppress(SegserveError):
                    for tenant, job_id in await self._ledger.active():
                        job = await self._ledger.get(tenant, job_id)
                        await dockets.add(job.priority, tenant, job_id)
                    await self._forget(DEFAULT_TENANT)
                await asyncio.sleep(SWEEP_S)
        finally:
            await dockets.close()

    async def _forget(self, tenant: str) -> None:
        for job_id in await self._results.older_than(tenant, FORGET_S):
            try:
                await self._ledger.get(tenant, job_id)
            except JobNotFound:
                await self._results.remove(tenant, job_id)


def lost(event: Event, start: Start) -> bool:
    return event.job.state.ended or event.fence != start.fence
