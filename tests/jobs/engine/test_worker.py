"""Workers: every job ends, once, whatever dies meanwhile."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from segserve.errors import TooLarge
from segserve.identity.identity import Identity, current_identity
from segserve.jobs.engine.job import FIRST_REQUEST, Job, JobEvent, JobKind, JobState
from segserve.store.private_redis import PrivateRedis, is_redis_answering
from segserve.types import AccessRole, Priority
from tests.jobs.conftest import OpenEngine
from tests.jobs.counting_job import (
    UNITS_PER_CHUNK,
    CountingRunner,
    JobEngine,
    counting_line,
    counting_request,
)

TIMEOUT_S = 60.0


@asynccontextmanager
async def worker_running(engine: JobEngine) -> AsyncIterator[None]:
    running = asyncio.create_task(engine.create_worker().run())
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def submit(
    engine: JobEngine, request: bytes, priority: Priority = Priority.BATCH, tenant: str = "t"
) -> str:
    return (await engine.queue.submit(tenant, JobKind.BATCH, priority, "starter", request)).job_id


async def wait_until(
    engine: JobEngine, job_id: str, condition: Callable[[Job], bool], tenant: str = "t"
) -> Job:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition(job := await engine.queue.get(tenant, job_id)):
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.01)
    return job


async def wait_for_end(engine: JobEngine, job_id: str) -> Job:
    return await wait_until(engine, job_id, lambda job: job.state.has_ended)


async def read_lines(engine: JobEngine, job_id: str, after: int = 0) -> list[bytes]:
    return [each async for each in await engine.queue.read_results("t", job_id, after)]


def run_story(story: Callable[[], Awaitable[None]]) -> None:
    async def in_loop() -> None:
        await story()

    asyncio.run(in_loop())


def test_a_worker_acts_for_who_submitted_the_job(
    open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    acted_for = list[tuple[str, str, str]]()
    open_job = CountingRunner.open

    async def note_and_open(self: CountingRunner, job: Job, *arguments: Any) -> Any:
        identity = current_identity.get()
        acted_for.append((job.job_id, identity.tenant, identity.name))
        return await open_job(self, job, *arguments)

    monkeypatch.setattr(CountingRunner, "open", note_and_open)

    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            expected = []
            for tenant, name in (("lab-a", "anna"), ("lab-b", "bert")):
                current_identity.set(Identity(tenant, AccessRole.ANNOTATOR, name))
                job_id = await submit(engine, counting_request(3), tenant=tenant)
                await wait_until(engine, job_id, lambda job: job.state is JobState.SUCCEEDED, tenant)
                expected.append((job_id, tenant, name))
            assert acted_for == expected

    run_story(story)


def test_a_job_is_done_in_chunks(open_engine: OpenEngine) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job_id = await submit(engine, counting_request(10))
            job = await wait_for_end(engine, job_id)
            assert (job.state, job.done, job.total, job.chunks) == (JobState.SUCCEEDED, 10, 10, 3)
            assert await read_lines(engine, job_id) == [counting_line(unit) for unit in range(10)]
            for after in (3, 4, 9, 10, 99):
                assert await read_lines(engine, job_id, after) == [
                    counting_line(unit) for unit in range(after, 10)
                ]
            progress = [event.job.done async for event in engine.queue.follow("t", job_id) if event]
            assert progress == [0, 0, 0, 4, 8, 10, 10]

    run_story(story)


def test_results_can_be_read_while_the_job_runs(open_engine: OpenEngine) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job_id = await submit(engine, counting_request(100, 0.01))
            job = await wait_until(engine, job_id, lambda job: job.done > 0)
            assert job.state is JobState.RUNNING
            lines = await read_lines(engine, job_id)
            assert lines == [counting_line(unit) for unit in range(len(lines))]
            assert 0 < len(lines) < 100
            await engine.queue.cancel("t", job_id)

    run_story(story)


def test_a_cancelled_job_stops_within_one_unit(open_engine: OpenEngine, tmp_path: Path) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job_id = await submit(engine, counting_request(1000, 0.2))
            await wait_until(engine, job_id, lambda job: job.done > 0)
            log = tmp_path / "begun.log"
            await engine.queue.cancel("t", job_id)
            at = len(log.read_text().splitlines())
            await asyncio.sleep(1.0)
            assert len(log.read_text().splitlines()) <= at + 1
            assert (await engine.queue.get("t", job_id)).state is JobState.CANCELLED
            await engine.queue.retry("t", job_id)
            job = await wait_until(engine, job_id, lambda job: job.done > 2 * UNITS_PER_CHUNK)
            assert job.state is JobState.RUNNING, "the retried job goes on at once"
            await engine.queue.cancel("t", job_id)

    run_story(story)


def test_a_job_that_cannot_be_done_fails_with_its_reason(open_engine: OpenEngine) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job_id = await submit(engine, counting_request(20, bad=2))
            job = await wait_for_end(engine, job_id)
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert (job.error.code, job.error.field) == ("bad_input", "input")
            assert await read_lines(engine, job_id) == [
                counting_line(unit) for unit in range(2 * UNITS_PER_CHUNK)
            ]

    run_story(story)


def test_a_transient_failure_is_retried_up_to_its_limit(
    open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segserve.jobs.engine.retry_policy.MIN_BACKOFF_S", 0.01)
    monkeypatch.setattr("segserve.jobs.engine.retry_policy.MAX_TRANSIENT_FAILURES", 3)

    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job = await wait_for_end(engine, await submit(engine, counting_request(20, transient=1)))
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert job.error.message == "Away for a while."

    run_story(story)


def test_an_interactive_job_does_not_wait_for_a_batch(open_engine: OpenEngine, tmp_path: Path) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            batch = await submit(engine, counting_request(1000, 0.02))
            await wait_until(engine, batch, lambda job: job.done > 0)
            begun = time.monotonic()
            quick = await submit(engine, counting_request(40, 0.02), Priority.INTERACTIVE)
            await wait_until(engine, quick, lambda job: job.done > 0)
            before = (await engine.queue.get("t", batch)).done
            await wait_for_end(engine, quick)
            assert (await engine.queue.get("t", batch)).done <= before + 2 * UNITS_PER_CHUNK, (
                "the batch pauses meanwhile"
            )
            assert time.monotonic() - begun < TIMEOUT_S
            await wait_until(engine, batch, lambda job: job.done > before + 2 * UNITS_PER_CHUNK)
            await engine.queue.cancel("t", batch)

    run_story(story)


def test_tenants_take_turns_job_by_job(open_engine: OpenEngine, tmp_path: Path) -> None:
    async def story() -> None:
        async with open_engine() as engine:
            flood = [await submit(engine, counting_request(4), tenant="flood") for _ in range(4)]
            calm = [await submit(engine, counting_request(4), tenant="calm") for _ in range(2)]
            async with worker_running(engine):
                for job_id in flood:
                    await wait_until(engine, job_id, lambda job: job.state.has_ended, "flood")
            begun = [line.split()[0] for line in (tmp_path / "begun.log").read_text().splitlines()]
            order = [job_id for number, job_id in enumerate(begun) if number % UNITS_PER_CHUNK == 0]
            assert order == [flood[0], calm[0], flood[1], calm[1], flood[2], flood[3]]

    run_story(story)


def test_a_long_job_makes_way_for_another_tenants_and_goes_on(open_engine: OpenEngine) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            long = await submit(engine, counting_request(200, 0.02), tenant="flood")
            behind = await submit(engine, counting_request(4), tenant="flood")
            await wait_until(engine, long, lambda job: job.done > 0, "flood")
            short = await submit(engine, counting_request(8), tenant="calm")
            await wait_until(engine, short, lambda job: job.state.has_ended, "calm")
            job = await engine.queue.get("flood", long)
            assert 0 < job.done < 200, "it was not waited for"
            assert (await engine.queue.get("flood", behind)).done == 0
            job = await wait_until(engine, long, lambda job: job.state.has_ended, "flood")
            assert (job.state, job.done, job.attempts) == (JobState.SUCCEEDED, 200, 1)
            lines = [each async for each in await engine.queue.read_results("flood", long)]
            assert lines == [counting_line(unit) for unit in range(200)]
            await wait_until(engine, behind, lambda job: job.state is JobState.SUCCEEDED, "flood")

    run_story(story)


def test_a_job_that_its_worker_pauses_with_is_no_others(open_engine: OpenEngine, tmp_path: Path) -> None:
    """Two workers: the second does not try at once what the first waits for."""

    async def story() -> None:
        async with open_engine() as engine, worker_running(engine), worker_running(engine):
            job_id = await submit(engine, counting_request(20, transient=1))
            await wait_until(engine, job_id, lambda job: job.chunks == 1 and job.state is JobState.QUEUED)
            for _ in range(3):
                await wait_for_end(engine, await submit(engine, counting_request(4)))
            tokens = [event.fence async for event in _first(engine, job_id)]
            assert max(tokens) == 1, "one attempt, and its pause goes on"
            await engine.queue.cancel("t", job_id)

    run_story(story)


async def _first(engine: JobEngine, job_id: str) -> AsyncIterator[JobEvent]:
    """Yield the events so far."""
    async for event in engine.queue.follow("t", job_id):
        if event is None:
            return
        yield event


def test_a_worker_that_shuts_down_gives_its_job_back(open_engine: OpenEngine) -> None:
    async def story() -> None:
        async with open_engine() as engine:
            async with worker_running(engine):
                job_id = await submit(engine, counting_request(40, 0.05))
                await wait_until(engine, job_id, lambda job: job.done > 0)
            job = await engine.queue.get("t", job_id)
            assert (job.state, job.attempts) == (JobState.QUEUED, 0)
            async with worker_running(engine):
                assert (await wait_for_end(engine, job_id)).state is JobState.SUCCEEDED
            assert await read_lines(engine, job_id) == [counting_line(unit) for unit in range(40)]

    run_story(story)


def test_a_job_that_is_in_no_docket_is_found_by_the_sweep(open_engine: OpenEngine) -> None:
    async def story() -> None:
        async with open_engine() as engine:
            await engine.results.put_request("t", "x", FIRST_REQUEST, counting_request(5))
            left = Job("t", "x", JobKind.BATCH, Priority.BATCH, "starter", JobState.QUEUED, time.time())
            await engine.store.submit(left, b"", None)
            async with worker_running(engine):
                assert (await wait_for_end(engine, "x")).state is JobState.SUCCEEDED

    run_story(story)


class WorkerProcess:
    """`WorkerProcess` starts a worker, and starts it again after it has died."""

    def __init__(self, url: str, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tests.jobs.counting_job", url, str(folder)]
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(self._command, start_new_session=True)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._start()

    def restart_after_death(self) -> int:
        """Wait until the worker dies, start it again, and return its exit status."""
        status = self.process.wait(timeout=TIMEOUT_S)
        self._start()
        return status

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=TIMEOUT_S)


def test_a_worker_is_killed_again_and_again_and_nothing_is_lost_or_published_twice(
    open_engine: OpenEngine, jobs_redis: PrivateRedis, tmp_path: Path
) -> None:
    kills, total = 4, 120

    async def story() -> None:
        async with open_engine() as engine:
            worker, rng = WorkerProcess(jobs_redis.url, tmp_path), random.Random(1)
            try:
                job_id = await submit(engine, counting_request(total, 0.02))
                done = 0
                for _ in range(kills):
                    more = done + rng.randrange(1, 3 * UNITS_PER_CHUNK)
                    done = (await wait_until(engine, job_id, lambda job, more=more: job.done >= more)).done  # type: ignore[misc]
                    worker.kill()
                job = await wait_for_end(engine, job_id)
            finally:
                worker.stop()
            assert (job.state, job.done) == (JobState.SUCCEEDED, total)
            assert await read_lines(engine, job_id) == [counting_line(unit) for unit in range(total)]
            events = [event.job async for event in engine.queue.follow("t", job_id) if event]
            published = Counter(job.chunks for job in events if job.attempts == 1 and job.chunks)
            assert set(published) == set(range(1, total // UNITS_PER_CHUNK + 1)), "each chunk has its event"
            assert [chunk.done for chunk in await engine.store.list_published("t", job_id)] == list(
                range(UNITS_PER_CHUNK, total + 1, UNITS_PER_CHUNK)
            )

    run_story(story)


@pytest.mark.parametrize("ended_before", [False, True])
def test_a_job_is_revised_while_it_runs_and_after(open_engine: OpenEngine, ended_before: bool) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job_id = await submit(engine, counting_request(40, 0.02))
            job = await wait_until(
                engine, job_id, lambda job: job.chunks == 10 if ended_before else job.chunks > 3
            )
            if ended_before:
                job = await wait_for_end(engine, job_id)
            await engine.queue.revise(job, counting_request(44, 0.001, salt="more"), keep=2)
            job = await wait_for_end(engine, job_id)
            assert (job.state, job.done, job.total, job.revision) == (JobState.SUCCEEDED, 44, 44, 1)
            kept = [counting_line(unit) for unit in range(8)]
            revised = [counting_line(unit, "more") for unit in range(8, 44)]
            assert await read_lines(engine, job_id) == kept + revised

    run_story(story)


def test_a_job_that_is_revised_while_its_worker_pauses_goes_on_at_once(open_engine: OpenEngine) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job_id = await submit(engine, counting_request(12, transient=1))
            job = await wait_until(
                engine, job_id, lambda job: job.chunks == 1 and job.state is JobState.QUEUED
            )
            await asyncio.sleep(3.0)  # by now the backoff is longer than this test waits
            await engine.queue.revise(job, counting_request(12), keep=1)
            assert (await wait_for_end(engine, job_id)).state is JobState.SUCCEEDED

    run_story(story)


def test_a_chunk_that_always_kills_its_worker_fails_the_job_and_the_queue_goes_on(
    open_engine: OpenEngine, jobs_redis: PrivateRedis, tmp_path: Path
) -> None:
    async def story() -> None:
        async with open_engine() as engine:
            worker = WorkerProcess(jobs_redis.url, tmp_path)
            try:
                poison = await submit(engine, counting_request(20, kills=1))
                after = await submit(engine, counting_request(20))
                for _ in range(3):
                    assert await asyncio.to_thread(worker.restart_after_death) == -signal.SIGKILL
                job = await wait_for_end(engine, poison)
                assert job.state is JobState.FAILED
                assert job.error is not None
                assert "died 3 times in a row on part 2" in job.error.message
                assert (await wait_for_end(engine, after)).state is JobState.SUCCEEDED
            finally:
                worker.stop()

    run_story(story)


def test_the_jobs_redis_is_killed_and_started_again(
    open_engine: OpenEngine, jobs_redis: PrivateRedis, tmp_path: Path
) -> None:
    async def story() -> None:
        async with open_engine() as engine, worker_running(engine):
            job_id = await submit(engine, counting_request(120, 0.02))
            for more in (5, 40):
                await wait_until(engine, job_id, lambda job, more=more: job.done > more)  # type: ignore[misc]
                pid = jobs_redis.pid()
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                while is_redis_answering(jobs_redis.socket):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(1.0)
                assert await asyncio.to_thread(jobs_redis.start)
            assert (await wait_for_end(engine, job_id)).state is JobState.SUCCEEDED
            assert await read_lines(engine, job_id) == [counting_line(unit) for unit in range(120)]
            assert [chunk.done for chunk in await engine.store.list_published("t", job_id)] == list(
                range(UNITS_PER_CHUNK, 121, UNITS_PER_CHUNK)
            )
            later = await submit(engine, counting_request(5))
            assert (await wait_for_end(engine, later)).state is JobState.SUCCEEDED, (
                "the worker takes jobs again"
            )

    run_story(story)


def test_a_full_quota_fails_the_job_and_loses_nothing(open_engine: OpenEngine) -> None:
    request = counting_request(20)
    chunk_bytes = sum(len(counting_line(unit)) + 1 for unit in range(UNITS_PER_CHUNK))

    async def story() -> None:
        async with open_engine(quota_bytes=len(request) + 3 * chunk_bytes) as engine, worker_running(engine):
            job = await wait_for_end(engine, job_id := await submit(engine, request))
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert "quota" in job.error.message
            assert "expire" in job.error.remedy
            done = [counting_line(unit) for unit in range(job.done)]
            assert job.done >= 2 * UNITS_PER_CHUNK
            assert await read_lines(engine, job_id) == done
            with pytest.raises(TooLarge, match="quota") as refused:
                await submit(engine, counting_request(1, salt="x" * chunk_bytes))
            assert refused.value.field == "body"
        async with open_engine(quota_bytes=1_000_000) as engine, worker_running(engine):
            await engine.queue.retry("t", job_id)
            assert (await wait_for_end(engine, job_id)).state is JobState.SUCCEEDED
            assert await read_lines(engine, job_id) == [counting_line(unit) for unit in range(20)]
            before = (await engine.counts.read("t")).bytes
            await engine.results.delete_job("t", job_id)
            assert (await engine.counts.read("t")).bytes < before / 2, "as expiry does"

    run_story(story)
