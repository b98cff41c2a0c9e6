"""The job store: every change happens whole, once, and with its event."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from segserve.errors import BadInput, Busy, JobNotFound, JobsUnavailable
from segserve.identity import tenant_policies
from segserve.identity.tenant_policies import TenantPolicies
from segserve.jobs.engine.job import Job, JobError, JobKind, JobState, PublishedChunk
from segserve.jobs.engine.job_store import JobAttempt, JobStore
from segserve.jobs.engine.object_ends import ObjectEnds
from segserve.jobs.engine.retry_policy import MAX_ATTEMPTS
from segserve.store.private_redis import PrivateRedis
from segserve.types import LossReason, ObjectEnd, Priority
from tests.jobs.conftest import OpenEngine
from tests.jobs.counting_job import JobEngine

Story = Callable[[JobEngine], Awaitable[None]]


def run_story(open_engine: OpenEngine, story: Story) -> None:
    async def run() -> None:
        async with open_engine() as engine:
            await story(engine)

    asyncio.run(run())


def make_job(name: str = "a", tenant: str = "t") -> Job:
    return Job(tenant, name, JobKind.BATCH, Priority.BATCH, "starter", JobState.QUEUED, time.time())


async def begin_attempt(engine: JobEngine, name: str = "a") -> JobAttempt:
    await engine.end_lease("t", name)
    attempt = await engine.store.begin("t", name, token=secrets.token_hex(8))
    assert attempt is not None
    return attempt


def test_a_job_from_its_submission_to_its_end(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        store = engine.store
        assert await store.submit(make_job(), b"{}", None) == "a"
        assert await store.list_active() == [("t", "a")]
        attempt = await begin_attempt(engine)
        assert (attempt.job.state, attempt.job.attempts, attempt.job.chunks) == (JobState.RUNNING, 1, 0)
        assert await store.set_total(attempt, 6)
        assert await store.publish(attempt, 0, PublishedChunk(4, 4, 1, 0), 2.0)
        running = await store.get("t", "a")
        assert (running.done, running.total, running.failures, running.eta_s) == (4, 6, 1, 1.0)
        assert await store.publish(attempt, 1, PublishedChunk(6, 6, 1, 0), 2.0)
        assert [chunk.done for chunk in await store.list_published("t", "a")] == [4, 6]
        assert await store.succeed(attempt)
        assert await store.list_active() == []
        states = [event.job.state async for event in store.events.follow("t", "a") if event]
        assert states == [JobState.QUEUED, *[JobState.RUNNING] * 4, JobState.SUCCEEDED]
        ended = await store.get("t", "a")
        assert ended.ended_at is not None
        assert ended.eta_s is None

    run_story(open_engine, story)


def test_a_worker_that_lost_the_job_publishes_nothing(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        store = engine.store
        await store.submit(make_job(), b"{}", None)
        silent = await begin_attempt(engine)
        successor = await begin_attempt(engine)
        assert successor.job.attempts == 2
        assert await store.begin("t", "a", token="x") is None, (
            "nobody else begins it while its holder renews its lease"
        )
        assert not await store.renew_lease(silent)
        assert await store.renew_lease(successor)
        assert not await store.publish(silent, 0, PublishedChunk(4, 4, 0, 0), 1.0)
        assert not await store.succeed(silent)
        assert not await store.release(silent)
        assert await store.begin("t", "a", previous=silent, token="x") is None
        assert await store.publish(successor, 0, PublishedChunk(4, 4, 0, 0), 1.0)
        assert await store.publish(successor, 0, PublishedChunk(4, 4, 0, 0), 1.0), (
            "repeated, as after a lost answer"
        )
        assert [chunk.done for chunk in await store.list_published("t", "a")] == [4]
        assert not await store.publish(successor, 2, PublishedChunk(4, 4, 0, 0), 1.0), "out of order"

    run_story(open_engine, story)


def test_attempts_are_counted_since_the_last_chunk(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        store = engine.store
        await store.submit(make_job(), b"{}", None)
        for _ in range(MAX_ATTEMPTS - 1):
            await begin_attempt(engine)
        await store.publish(await begin_attempt(engine), 0, PublishedChunk(4, 4, 0, 0), 1.0)
        for _ in range(MAX_ATTEMPTS - 1):
            await begin_attempt(engine)
        assert (await store.get("t", "a")).state is JobState.RUNNING
        await engine.end_lease("t", "a")
        assert await store.begin("t", "a", token="x") is None
        failed = await store.get("t", "a")
        assert failed.state is JobState.FAILED
        assert failed.error is not None
        assert "died 3 times in a row on part 2" in failed.error.message
        assert await store.list_active() == []

    run_story(open_engine, story)


def test_a_released_attempt_does_not_count(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        await engine.store.submit(make_job(), b"{}", None)
        for _ in range(2 * MAX_ATTEMPTS):
            assert await engine.store.release(await begin_attempt(engine))
        assert (await engine.store.get("t", "a")).state is JobState.QUEUED

    run_story(open_engine, story)


def test_an_attempt_whose_answer_was_lost_counts_once(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        store = engine.store
        await store.submit(make_job(), b"{}", None)
        first = await store.begin("t", "a", token="one")
        assert first is not None
        assert await store.begin("t", "a", token="one") == first
        after = await store.begin("t", "a", first, token="two")
        assert after is not None
        assert (after.job.attempts, after.fence > first.fence) == (2, True)
        assert await store.begin("t", "a", first, token="two") == after
        assert await store.begin("t", "a", token="one") is None, "that attempt has been followed by another"
        await store.cancel("t", "a")
        assert await store.begin("t", "a", first, token="two") is None
        await store.retry("t", "a")
        again = await store.begin("t", "a", token="two")
        assert again is not None
        assert (again.job.attempts, again.fence > after.fence) == (1, True), "it is a new attempt"

    run_story(open_engine, story)


def test_an_attempt_that_is_released_twice_is_released_once(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        await engine.store.submit(make_job(), b"{}", None)
        attempt = await begin_attempt(engine)
        assert await engine.store.release(attempt)
        assert await engine.store.release(attempt), "repeated, as after a lost answer"
        assert (await engine.store.get("t", "a")).attempts == 0

    run_story(open_engine, story)


def test_a_job_is_cancelled_and_retried(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        store = engine.store
        await store.submit(make_job(), b"{}", None)
        attempt = await begin_attempt(engine)
        await store.publish(attempt, 0, PublishedChunk(4, 4, 0, 0), 1.0)
        assert (await store.cancel("t", "a")).state is JobState.CANCELLED
        assert not await store.publish(attempt, 1, PublishedChunk(8, 8, 0, 0), 1.0)
        assert (await store.retry("t", "a")).state is JobState.QUEUED
        assert not await store.fail(attempt, JobError("x", "too late"))
        again = await begin_attempt(engine)
        assert (again.job.chunks, again.job.done) == (1, 4)
        await store.fail(again, JobError("bad_input", "No."))
        assert (await store.cancel("t", "a")).state is JobState.FAILED, (
            "a job that has ended stays as it ended"
        )
        retried = await store.retry("t", "a")
        assert retried.error is None
        with pytest.raises(BadInput, match="is queued"):
            await store.retry("t", "a")

    run_story(open_engine, story)


def test_the_same_idempotency_key_is_the_same_job(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        store = engine.store
        assert await store.submit(make_job("a"), b"{}", "key") == "a"
        assert await store.submit(make_job("b"), b"{}", "key") == "a"
        assert await store.submit(make_job("c", "other"), b"{}", "key") == "c", "each tenant has its own keys"
        with pytest.raises(BadInput, match="another request") as caught:
            await store.submit(make_job("b"), b"{1}", "key")
        assert caught.value.field == "idempotency-key"
        assert [j.job_id for j in await store.list_recent("t")] == ["a"]

    run_story(open_engine, story)


def test_too_many_active_jobs_are_refused(
    jobs_redis: PrivateRedis, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def story() -> None:
        engine = JobEngine(jobs_redis.url, tmp_path_factory.mktemp("x"), max_active=1)
        await engine.store.submit(make_job("a"), b"{}", "key")
        with pytest.raises(Busy):
            await engine.store.submit(make_job("b"), b"{}", None)
        assert await engine.store.submit(make_job("b"), b"{}", "key") == "a", (
            "a repeated submission is answered"
        )
        await engine.store.cancel("t", "a")
        await engine.store.submit(make_job("b"), b"{}", None)
        with pytest.raises(Busy):
            await engine.store.retry("t", "a")
        assert (await engine.store.get("t", "a")).state is JobState.CANCELLED
        await engine.store.cancel("t", "b")
        assert (await engine.store.retry("t", "a")).state is JobState.QUEUED
        await engine.close()

    asyncio.run(story())


def test_a_tenant_has_no_more_active_jobs_than_its_quota(
    open_engine: OpenEngine, jobs_redis: PrivateRedis, tmp_path: Path
) -> None:
    path = tmp_path / "tenants.yaml"
    path.write_text("tenants: {t: {max_jobs: 2}}")

    async def story(engine: JobEngine) -> None:
        store = JobStore(
            jobs_redis.url, 2.0, ttl_s=60, max_active=100, lease_s=5.0, policies=TenantPolicies(path=path)
        )
        submitting = [store.submit(make_job(str(number)), b"", None) for number in range(9)]
        answers = await asyncio.gather(*submitting, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Busy)]
        assert len(refused) == 7
        assert "quota of 2 jobs" in refused[0].message
        # The name of this tenant begins like the other's.
        await store.submit(make_job("x", "t2"), b"", None)
        first, second = [answer for answer in answers if isinstance(answer, str)]
        await store.cancel("t", first)
        await store.submit(make_job("y"), b"", None)
        with pytest.raises(Busy, match="quota of 2 jobs"):
            await store.retry("t", first)
        with pytest.raises(Busy, match="quota of 2 jobs"):
            await store.revise(await store.get("t", first), "again", 0)
        assert (await store.revise(await store.get("t", second), "again", 0)).revision == 1, "it is active"
        path.write_text("tenants: {t: {max_jobs: 3}}")
        await asyncio.sleep(tenant_policies.CHECK_INTERVAL_S)
        assert (await store.retry("t", first)).state is JobState.QUEUED
        await store.close()

    run_story(open_engine, story)


def test_unknown_jobs_and_events_are_refused(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        for call in (engine.store.get, engine.store.cancel, engine.store.retry):
            with pytest.raises(JobNotFound):
                await call("t", "nobody")
        for job_id in ("nobody", "a:events", "", "x" * 65):
            with pytest.raises(JobNotFound):
                async for _ in engine.store.events.follow("t", job_id):
                    pass
        assert await engine.store.begin("t", "nobody", token="x") is None
        await engine.store.submit(make_job(), b"{}", None)
        with pytest.raises(JobNotFound):
            await engine.store.get("other", "a")
        for after in ("yesterday", "$", "1-", "9" * 30 + "-0"):
            with pytest.raises(BadInput, match="no event's id"):
                await engine.store.events.read("t", "a", after)
        attempt = await begin_attempt(engine)
        await engine.store.succeed(attempt)
        ids = [event.id async for event in engine.store.events.follow("t", "a") if event]
        assert [event async for event in engine.store.events.follow("t", "a", ids[-1])] == [], (
            "the job has ended"
        )

    run_story(open_engine, story)


def test_ends_of_objects_are_told_in_events_and_forgotten_with_their_chunks(open_engine: OpenEngine) -> None:
    first, second = ObjectEnd(1, 3, 2, LossReason.IOU), ObjectEnd(2, 9, None, LossReason.EMPTY)
    one, both = ObjectEnds().append([first]), ObjectEnds().append([first, second])

    async def story(engine: JobEngine) -> None:
        store = engine.store
        await store.submit(make_job(), b"{}", None)
        attempt = await begin_attempt(engine)
        for number, ends in enumerate((one, both)):
            await store.publish(attempt, number, PublishedChunk(4, 4, 0, 0, ends), 1.0)
        assert [chunk.object_ends for chunk in await store.list_published("t", "a")] == [one, both]
        await store.succeed(attempt)
        told = [event.job.object_ends async for event in store.events.follow("t", "a") if event]
        assert told == [ObjectEnds(), ObjectEnds(), one, both, both]
        job = await store.revise(await store.get("t", "a"), "more", keep=1)
        assert job.object_ends == one
        assert (await store.revise(job, "afresh", keep=0)).object_ends == ObjectEnds()

    run_story(open_engine, story)


def test_a_redis_that_is_away_is_reported(open_engine: OpenEngine, jobs_redis: PrivateRedis) -> None:
    async def story(engine: JobEngine) -> None:
        await engine.store.submit(make_job(), b"{}", None)
        jobs_redis.stop()
        with pytest.raises(JobsUnavailable):
            await engine.store.get("t", "a")
        jobs_redis.start()
        assert (await engine.store.get("t", "a")).job_id == "a", "it kept the job"

    run_story(open_engine, story)


def test_a_revised_job_goes_on_after_the_chunks_it_keeps(open_engine: OpenEngine) -> None:
    async def story(engine: JobEngine) -> None:
        store = engine.store
        await store.submit(make_job(), b"{}", None)
        attempt = await begin_attempt(engine)
        for chunk, ends in enumerate(
            [PublishedChunk(4, 4, 1, 0), PublishedChunk(8, 8, 2, 0), PublishedChunk(10, 10, 2, 0)]
        ):
            await store.publish(attempt, chunk, ends, 1.0)
        revised = await store.revise(await store.get("t", "a"), "more", keep=2)
        assert (revised.state, revised.revision, revised.request_name) == (JobState.QUEUED, 1, "more")
        assert (revised.chunks, revised.done, revised.failures) == (2, 8, 2)
        assert await store.list_published("t", "a") == [
            PublishedChunk(4, 4, 1, 0),
            PublishedChunk(8, 8, 2, 0),
        ]
        assert not await store.publish(attempt, 2, PublishedChunk(10, 10, 2, 0), 1.0), (
            "the attempt before holds it no more"
        )
        again = await store.begin("t", "a", token="again")
        assert again is not None, "its lease is gone too"
        await store.publish(again, 2, PublishedChunk(12, 12, 2, 1), 1.0)
        await store.succeed(again)
        ended = await store.get("t", "a")
        assert ended.done == 12
        with pytest.raises(Busy, match="at the same moment"):
            await store.revise(attempt.job, "late", keep=0)
        afresh = await store.revise(ended, "afresh", keep=0)
        assert (afresh.state, afresh.chunks, afresh.done, afresh.ended_at) == (JobState.QUEUED, 0, 0, None)
        assert await store.list_active() == [("t", "a")]

    run_story(open_engine, story)
