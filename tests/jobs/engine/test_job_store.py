"""The jobs' book: every change whole, once, with its event."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

import pytest

from segserve.errors import BadInput, Busy, JobNotFound, JobsUnavailable
from segserve.jobs.engine.job import Job, JobError, JobKind, JobState, PublishedChunk
from segserve.jobs.engine.job_store import JobAttempt
from segserve.jobs.engine.retry_policy import MAX_ATTEMPTS
from segserve.store.private_redis import PrivateRedis
from segserve.types import Priority
from tests.jobs.conftest import Opening
from tests.jobs.counting import Parts

Story = Callable[[Parts], Awaitable[None]]


def told(opening: Opening, story: Story) -> None:
    async def run() -> None:
        async with opening() as parts:
            await story(parts)

    asyncio.run(run())


def job(name: str = "a", tenant: str = "t") -> Job:
    return Job(tenant, name, JobKind.BATCH, Priority.BATCH, "starter", JobState.QUEUED, time.time())


async def begun(parts: Parts, name: str = "a") -> JobAttempt:
    await parts.end_lease("t", name)
    start = await parts.ledger.begin("t", name, token=secrets.token_hex(8))
    assert start is not None
    return start


def test_a_job_from_its_submission_to_its_end(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        ledger = parts.ledger
        assert await ledger.submit(job(), b"{}", None) == "a"
        assert await ledger.list_active() == [("t", "a")]
        start = await begun(parts)
        assert (start.job.state, start.job.attempts, start.job.chunks) == (JobState.RUNNING, 1, 0)
        assert await ledger.set_total(start, 6)
        assert await ledger.publish(start, 0, PublishedChunk(4, 4, 1, 0), 2.0)
        running = await ledger.get("t", "a")
        assert (running.done, running.total, running.failures, running.eta_s) == (4, 6, 1, 1.0)
        assert await ledger.publish(start, 1, PublishedChunk(6, 6, 1, 0), 2.0)
        assert [chunk.done for chunk in await ledger.list_published("t", "a")] == [4, 6]
        assert await ledger.succeed(start)
        assert await ledger.list_active() == []
        states = [event.job.state async for event in ledger.follow("t", "a") if event]
        assert states == [JobState.QUEUED, *[JobState.RUNNING] * 4, JobState.SUCCEEDED]
        ended = await ledger.get("t", "a")
        assert ended.ended_at is not None
        assert ended.eta_s is None

    told(opening, story)


def test_who_lost_the_job_publishes_nothing(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        ledger = parts.ledger
        await ledger.submit(job(), b"{}", None)
        silent = await begun(parts)
        successor = await begun(parts)
        assert successor.job.attempts == 2
        assert await ledger.begin("t", "a", token="x") is None, (
            "while its holder is heard of nobody else begins it"
        )
        assert not await ledger.renew_lease(silent)
        assert await ledger.renew_lease(successor)
        assert not await ledger.publish(silent, 0, PublishedChunk(4, 4, 0, 0), 1.0)
        assert not await ledger.succeed(silent)
        assert not await ledger.release(silent)
        assert await ledger.begin("t", "a", after=silent, token="x") is None
        assert await ledger.publish(successor, 0, PublishedChunk(4, 4, 0, 0), 1.0)
        assert await ledger.publish(successor, 0, PublishedChunk(4, 4, 0, 0), 1.0), (
            "asked again, as after a lost answer"
        )
        assert [chunk.done for chunk in await ledger.list_published("t", "a")] == [4]
        assert not await ledger.publish(successor, 2, PublishedChunk(4, 4, 0, 0), 1.0), "out of order"

    told(opening, story)


def test_attempts_count_the_starts_since_the_last_chunk(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        ledger = parts.ledger
        await ledger.submit(job(), b"{}", None)
        for _ in range(MAX_ATTEMPTS - 1):
            await begun(parts)
        await ledger.publish(await begun(parts), 0, PublishedChunk(4, 4, 0, 0), 1.0)
        for _ in range(MAX_ATTEMPTS - 1):
            await begun(parts)
        assert (await ledger.get("t", "a")).state is JobState.RUNNING
        await parts.end_lease("t", "a")
        assert await ledger.begin("t", "a", token="x") is None
        failed = await ledger.get("t", "a")
        assert failed.state is JobState.FAILED
        assert failed.error is not None
        assert "died 3 times in a row on part 2" in failed.error.message
        assert await ledger.list_active() == []

    told(opening, story)


def test_a_start_that_is_given_back_does_not_count(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        await parts.ledger.submit(job(), b"{}", None)
        for _ in range(2 * MAX_ATTEMPTS):
            assert await parts.ledger.release(await begun(parts))
        assert (await parts.ledger.get("t", "a")).state is JobState.QUEUED

    told(opening, story)


def test_a_start_whose_answer_was_lost_counts_once(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        ledger = parts.ledger
        await ledger.submit(job(), b"{}", None)
        first = await ledger.begin("t", "a", token="one")
        assert first is not None
        assert await ledger.begin("t", "a", token="one") == first
        after = await ledger.begin("t", "a", first, token="two")
        assert after is not None
        assert (after.job.attempts, after.fence > first.fence) == (2, True)
        assert await ledger.begin("t", "a", first, token="two") == after
        assert await ledger.begin("t", "a", token="one") is None, "that start has been followed by another"
        await ledger.cancel("t", "a")
        assert await ledger.begin("t", "a", first, token="two") is None
        await ledger.retry("t", "a")
        again = await ledger.begin("t", "a", token="two")
        assert again is not None
        assert (again.job.attempts, again.fence > after.fence) == (1, True), "a start of its own"

    told(opening, story)


def test_a_start_given_back_twice_is_given_back_once(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        await parts.ledger.submit(job(), b"{}", None)
        start = await begun(parts)
        assert await parts.ledger.release(start)
        assert await parts.ledger.release(start), "asked again, as after a lost answer"
        assert (await parts.ledger.get("t", "a")).attempts == 0

    told(opening, story)


def test_cancelled_and_tried_again(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        ledger = parts.ledger
        await ledger.submit(job(), b"{}", None)
        start = await begun(parts)
        await ledger.publish(start, 0, PublishedChunk(4, 4, 0, 0), 1.0)
        assert (await ledger.cancel("t", "a")).state is JobState.CANCELLED
        assert not await ledger.publish(start, 1, PublishedChunk(8, 8, 0, 0), 1.0)
        assert (await ledger.retry("t", "a")).state is JobState.QUEUED
        assert not await ledger.fail(start, JobError("x", "too late"))
        again = await begun(parts)
        assert (again.job.chunks, again.job.done) == (1, 4)
        await ledger.fail(again, JobError("bad_input", "No."))
        assert (await ledger.cancel("t", "a")).state is JobState.FAILED, "what has ended stays as it ended"
        retried = await ledger.retry("t", "a")
        assert retried.error is None
        with pytest.raises(BadInput, match="is queued"):
            await ledger.retry("t", "a")

    told(opening, story)


def test_the_same_key_is_the_same_job(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        ledger = parts.ledger
        assert await ledger.submit(job("a"), b"{}", "key") == "a"
        assert await ledger.submit(job("b"), b"{}", "key") == "a"
        assert await ledger.submit(job("c", "other"), b"{}", "key") == "c", "keys are a tenant's own"
        with pytest.raises(BadInput, match="another request") as caught:
            await ledger.submit(job("b"), b"{1}", "key")
        assert caught.value.field == "idempotency-key"
        assert [j.job_id for j in await ledger.list_recent("t")] == ["a"]

    told(opening, story)


def test_too_many_are_refused(jobs_redis: PrivateRedis, tmp_path_factory: pytest.TempPathFactory) -> None:
    async def story() -> None:
        parts = Parts(jobs_redis.url, tmp_path_factory.mktemp("x"), max_active=1)
        await parts.ledger.submit(job("a"), b"{}", "key")
        with pytest.raises(Busy):
            await parts.ledger.submit(job("b"), b"{}", None)
        assert await parts.ledger.submit(job("b"), b"{}", "key") == "a", "what is known already is answered"
        await parts.ledger.cancel("t", "a")
        await parts.ledger.submit(job("b"), b"{}", None)
        with pytest.raises(Busy):
            await parts.ledger.retry("t", "a")
        assert (await parts.ledger.get("t", "a")).state is JobState.CANCELLED
        await parts.ledger.cancel("t", "b")
        assert (await parts.ledger.retry("t", "a")).state is JobState.QUEUED
        await parts.close()

    asyncio.run(story())


def test_what_is_not_known(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        for call in (parts.ledger.get, parts.ledger.cancel, parts.ledger.retry):
            with pytest.raises(JobNotFound):
                await call("t", "nobody")
        for job_id in ("nobody", "a:events", "", "x" * 65):
            with pytest.raises(JobNotFound):
                async for _ in parts.ledger.follow("t", job_id):
                    pass
        assert await parts.ledger.begin("t", "nobody", token="x") is None
        await parts.ledger.submit(job(), b"{}", None)
        with pytest.raises(JobNotFound):
            await parts.ledger.get("other", "a")
        for after in ("yesterday", "$", "1-", "9" * 30 + "-0"):
            with pytest.raises(BadInput, match="no event's id"):
                await parts.ledger.read_events("t", "a", after)
        start = await begun(parts)
        await parts.ledger.succeed(start)
        ids = [event.id async for event in parts.ledger.follow("t", "a") if event]
        assert [event async for event in parts.ledger.follow("t", "a", ids[-1])] == [], "it has ended"

    told(opening, story)


def test_a_redis_that_is_away_is_told(opening: Opening, jobs_redis: PrivateRedis) -> None:
    async def story(parts: Parts) -> None:
        await parts.ledger.submit(job(), b"{}", None)
        jobs_redis.stop()
        with pytest.raises(JobsUnavailable):
            await parts.ledger.get("t", "a")
        jobs_redis.start()
        assert (await parts.ledger.get("t", "a")).job_id == "a", "it kept what it was told"

    told(opening, story)


def test_a_revised_job_goes_on_after_the_chunks_it_keeps(opening: Opening) -> None:
    async def story(parts: Parts) -> None:
        ledger = parts.ledger
        await ledger.submit(job(), b"{}", None)
        start = await begun(parts)
        for chunk, ends in enumerate(
            [PublishedChunk(4, 4, 1, 0), PublishedChunk(8, 8, 2, 0), PublishedChunk(10, 10, 2, 0)]
        ):
            await ledger.publish(start, chunk, ends, 1.0)
        revised = await ledger.revise(await ledger.get("t", "a"), "more", keep=2)
        assert (revised.state, revised.revision, revised.request_name) == (JobState.QUEUED, 1, "more")
        assert (revised.chunks, revised.done, revised.failures) == (2, 8, 2)
        assert await ledger.list_published("t", "a") == [
            PublishedChunk(4, 4, 1, 0),
            PublishedChunk(8, 8, 2, 0),
        ]
        assert not await ledger.publish(start, 2, PublishedChunk(10, 10, 2, 0), 1.0), (
            "the start before holds it no more"
        )
        again = await ledger.begin("t", "a", token="again")
        assert again is not None, "nor does its lease"
        await ledger.publish(again, 2, PublishedChunk(12, 12, 2, 1), 1.0)
        await ledger.succeed(again)
        ended = await ledger.get("t", "a")
        assert ended.done == 12
        with pytest.raises(Busy, match="at the same moment"):
            await ledger.revise(start.job, "late", keep=0)
        afresh = await ledger.revise(ended, "afresh", keep=0)
        assert (afresh.state, afresh.chunks, afresh.done, afresh.ended_at) == (JobState.QUEUED, 0, 0, None)
        assert await ledger.list_active() == [("t", "a")]

    told(opening, story)
