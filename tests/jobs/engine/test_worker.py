"""Workers: jobs end, once, whatever dies meanwhile."""

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

import pytest

from segserve.jobs.engine.job import FIRST_REQUEST, Job, JobKind, JobState
from segserve.store.private_redis import PrivateRedis, is_redis_answering
from segserve.types import Priority
from tests.jobs.conftest import Opening
from tests.jobs.counting import SIZE, Parts, ask, line

PATIENCE_S = 60.0


@asynccontextmanager
async def working(parts: Parts) -> AsyncIterator[None]:
    running = asyncio.create_task(parts.worker().run())
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def submit(parts: Parts, request: bytes, priority: Priority = Priority.BATCH) -> str:
    return (await parts.queue.submit("t", JobKind.BATCH, priority, "starter", request)).job_id


async def until(parts: Parts, job_id: str, true: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + PATIENCE_S
    while not true(job := await parts.queue.get("t", job_id)):
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.01)
    return job


async def ended(parts: Parts, job_id: str) -> Job:
    return await until(parts, job_id, lambda job: job.state.has_ended)


async def lines(parts: Parts, job_id: str, after: int = 0) -> list[bytes]:
    return [each async for each in await parts.queue.read_results("t", job_id, after)]


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(told())


def test_a_job_is_done_in_chunks(opening: Opening) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            job_id = await submit(parts, ask(10))
            job = await ended(parts, job_id)
            assert (job.state, job.done, job.total, job.chunks) == (JobState.SUCCEEDED, 10, 10, 3)
            assert await lines(parts, job_id) == [line(unit) for unit in range(10)]
            for after in (3, 4, 9, 10, 99):
                assert await lines(parts, job_id, after) == [line(unit) for unit in range(after, 10)]
            seen = [event.job.done async for event in parts.queue.follow("t", job_id) if event]
            assert seen == [0, 0, 0, 4, 8, 10, 10]

    run(story)


def test_results_are_seen_while_it_runs(opening: Opening) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            job_id = await submit(parts, ask(100, 0.01))
            job = await until(parts, job_id, lambda job: job.done > 0)
            assert job.state is JobState.RUNNING
            seen = await lines(parts, job_id)
            assert seen == [line(unit) for unit in range(len(seen))]
            assert 0 < len(seen) < 100
            await parts.queue.cancel("t", job_id)

    run(story)


def test_work_stops_within_a_unit_of_being_cancelled(opening: Opening, tmp_path: Path) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            job_id = await submit(parts, ask(1000, 0.2))
            await until(parts, job_id, lambda job: job.done > 0)
            log = tmp_path / "begun.log"
            await parts.queue.cancel("t", job_id)
            at = len(log.read_text().splitlines())
            await asyncio.sleep(1.0)
            assert len(log.read_text().splitlines()) <= at + 1
            assert (await parts.queue.get("t", job_id)).state is JobState.CANCELLED
            await parts.queue.retry("t", job_id)
            job = await until(parts, job_id, lambda job: job.done > 2 * SIZE)
            assert job.state is JobState.RUNNING, "it goes on at once"
            await parts.queue.cancel("t", job_id)

    run(story)


def test_what_cannot_be_done_fails_with_its_reason(opening: Opening) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            job_id = await submit(parts, ask(20, bad=2))
            job = await ended(parts, job_id)
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert (job.error.code, job.error.field) == ("bad_input", "input")
            assert await lines(parts, job_id) == [line(unit) for unit in range(2 * SIZE)]

    run(story)


def test_a_passing_failure_is_tried_again_and_again(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segserve.jobs.engine.retry_policy.MIN_BACKOFF_S", 0.01)
    monkeypatch.setattr("segserve.jobs.engine.retry_policy.MAX_TRANSIENT_FAILURES", 3)

    async def story() -> None:
        async with opening() as parts, working(parts):
            job = await ended(parts, await submit(parts, ask(20, passing=1)))
            assert job.state is JobState.FAILED
            assert job.error is not None
            assert job.error.message == "Away for a while."

    run(story)


def test_an_interactive_job_does_not_wait_for_a_batch(opening: Opening, tmp_path: Path) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            batch = await submit(parts, ask(1000, 0.02))
            await until(parts, batch, lambda job: job.done > 0)
            begun = time.monotonic()
            quick = await submit(parts, ask(40, 0.02), Priority.INTERACTIVE)
            await until(parts, quick, lambda job: job.done > 0)
            before = (await parts.queue.get("t", batch)).done
            await ended(parts, quick)
            assert (await parts.queue.get("t", batch)).done <= before + 2 * SIZE, (
                "the batch stands still meanwhile"
            )
            assert time.monotonic() - begun < PATIENCE_S
            await until(parts, batch, lambda job: job.done > before + 2 * SIZE)
            await parts.queue.cancel("t", batch)

    run(story)


def test_a_worker_that_is_told_to_end_gives_the_job_back(opening: Opening) -> None:
    async def story() -> None:
        async with opening() as parts:
            async with working(parts):
                job_id = await submit(parts, ask(40, 0.05))
                await until(parts, job_id, lambda job: job.done > 0)
            job = await parts.queue.get("t", job_id)
            assert (job.state, job.attempts) == (JobState.QUEUED, 0)
            async with working(parts):
                assert (await ended(parts, job_id)).state is JobState.SUCCEEDED
            assert await lines(parts, job_id) == [line(unit) for unit in range(40)]

    run(story)


def test_what_is_in_no_docket_is_found_by_the_sweep(opening: Opening) -> None:
    async def story() -> None:
        async with opening() as parts:
            await parts.results.put_request("t", "x", FIRST_REQUEST, ask(5))
            left = Job("t", "x", JobKind.BATCH, Priority.BATCH, "starter", JobState.QUEUED, time.time())
            await parts.ledger.submit(left, b"", None)
            async with working(parts):
                assert (await ended(parts, "x")).state is JobState.SUCCEEDED

    run(story)


class Workers:
    """A worker process, started again whenever it has died."""

    def __init__(self, url: str, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tests.jobs.counting", url, str(folder)]
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(self._command, start_new_session=True)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._start()

    def revive(self) -> int:
        """Wait for it to die, and start it again."""
        status = self.process.wait(timeout=PATIENCE_S)
        self._start()
        return status

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_S)


def test_killed_again_and_again_nothing_is_lost_or_published_twice(
    opening: Opening, jobs_redis: PrivateRedis, tmp_path: Path
) -> None:
    kills, total = 4, 120

    async def story() -> None:
        async with opening() as parts:
            workers, rng = Workers(jobs_redis.url, tmp_path), random.Random(1)
            try:
                job_id = await submit(parts, ask(total, 0.02))
                seen = 0
                for _ in range(kills):
                    more = seen + rng.randrange(1, 3 * SIZE)
                    seen = (await until(parts, job_id, lambda job, more=more: job.done >= more)).done  # type: ignore[misc]
                    workers.kill()
                job = await ended(parts, job_id)
            finally:
                workers.stop()
            assert (job.state, job.done) == (JobState.SUCCEEDED, total)
            assert await lines(parts, job_id) == [line(unit) for unit in range(total)]
            events = [event.job async for event in parts.queue.follow("t", job_id) if event]
            published = Counter(job.chunks for job in events if job.attempts == 1 and job.chunks)
            assert set(published) == set(range(1, total // SIZE + 1)), "each chunk has its event"
            assert [chunk.done for chunk in await parts.ledger.list_published("t", job_id)] == list(
                range(SIZE, total + 1, SIZE)
            )

    run(story)


@pytest.mark.parametrize("ended_before", [False, True])
def test_a_job_is_revised_while_it_runs_and_after(opening: Opening, ended_before: bool) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            job_id = await submit(parts, ask(40, 0.02))
            job = await until(parts, job_id, lambda job: job.chunks == 10 if ended_before else job.chunks > 3)
            if ended_before:
                job = await ended(parts, job_id)
            await parts.queue.revise(job, ask(44, 0.001, salt="more"), keep=2)
            job = await ended(parts, job_id)
            assert (job.state, job.done, job.total, job.revision) == (JobState.SUCCEEDED, 44, 44, 1)
            kept, made = [line(unit) for unit in range(8)], [line(unit, "more") for unit in range(8, 44)]
            assert await lines(parts, job_id) == kept + made

    run(story)


def test_a_job_that_is_revised_while_its_worker_pauses_goes_on_at_once(opening: Opening) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            job_id = await submit(parts, ask(12, passing=1))
            job = await until(parts, job_id, lambda job: job.chunks == 1 and job.state is JobState.QUEUED)
            await asyncio.sleep(3.0)  # by now pauses are longer than this test's patience
            await parts.queue.revise(job, ask(12), keep=1)
            assert (await ended(parts, job_id)).state is JobState.SUCCEEDED

    run(story)


def test_a_chunk_that_always_kills_its_worker_fails_the_job_and_the_queue_goes_on(
    opening: Opening, jobs_redis: PrivateRedis, tmp_path: Path
) -> None:
    async def story() -> None:
        async with opening() as parts:
            workers = Workers(jobs_redis.url, tmp_path)
            try:
                poison = await submit(parts, ask(20, kills=1))
                after = await submit(parts, ask(20))
                for _ in range(3):
                    assert await asyncio.to_thread(workers.revive) == -signal.SIGKILL
                job = await ended(parts, poison)
                assert job.state is JobState.FAILED
                assert job.error is not None
                assert "died 3 times in a row on part 2" in job.error.message
                assert (await ended(parts, after)).state is JobState.SUCCEEDED
            finally:
                workers.stop()

    run(story)


def test_the_jobs_redis_is_killed_and_started_again(
    opening: Opening, jobs_redis: PrivateRedis, tmp_path: Path
) -> None:
    async def story() -> None:
        async with opening() as parts, working(parts):
            job_id = await submit(parts, ask(120, 0.02))
            for more in (5, 40):
                await until(parts, job_id, lambda job, more=more: job.done > more)  # type: ignore[misc]
                pid = jobs_redis.pid()
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                while is_redis_answering(jobs_redis.socket):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(1.0)
                assert await asyncio.to_thread(jobs_redis.start)
            assert (await ended(parts, job_id)).state is JobState.SUCCEEDED
            assert await lines(parts, job_id) == [line(unit) for unit in range(120)]
            assert [chunk.done for chunk in await parts.ledger.list_published("t", job_id)] == list(
                range(SIZE, 121, SIZE)
            )
            later = await submit(parts, ask(5))
            assert (await ended(parts, later)).state is JobState.SUCCEEDED, "the worker takes jobs again"

    run(story)
