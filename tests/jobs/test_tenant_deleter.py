"""A tenant that is deleted leaves nothing, whatever is killed meanwhile, and no other tenant loses anything."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segserve.errors import CacheUnavailable, JobNotFound, TenantDeleted, Unavailable
from segserve.jobs import tenant_deleter
from segserve.jobs.engine.job import Job, JobKind, JobState
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.tenant_deleter import TenantDeleter
from segserve.jobs.usage_store import UsageStore
from segserve.metrics import UsageDay
from segserve.store import redis_keys
from segserve.store.object_store import DELETED_AT_ONCE, ObjectStore, open_store
from segserve.store.private_redis import PrivateRedis
from segserve.store.redis_cache import RedisCache, TenantGone
from segserve.store.tenant_deletions import TenantDeletions
from segserve.types import Priority
from tests.quotas import close_quota, open_quota

GONE, KEPT = "lab-a", "lab-ab"  # the name of the one begins that of the other


@dataclass
class Parts:
    """What a replica has."""

    objects: ObjectStore
    cache: RedisCache
    jobs: JobStore
    usage: UsageStore
    deletions: TenantDeletions

    @property
    def deleter(self) -> TenantDeleter:
        return TenantDeleter(self.deletions, self.objects, self.cache, self.jobs, self.usage)

    async def fill(self, tenant: str) -> None:
        for path in (
            "images/a/bytes",
            "images/a/record.json",
            "files/a/bytes",
            "jobs/a/chunks/0",
            "datastore/a",
        ):
            await self.objects.put(f"{tenant}/{path}", b"1")
        await self.cache.put_masks(tenant, "a" * 64, {"m": np.zeros((4, 4), np.float16)})
        await self.cache.put_embedding(tenant, "a" * 64, "digest", b"packed")
        webhook = "https://example.org/"
        for job_id in ("queued", "ended"):
            job = Job(
                tenant,
                job_id,
                JobKind.BATCH,
                Priority.BATCH,
                "m",
                JobState.QUEUED,
                time.time(),
                webhook=webhook,
            )
            await self.jobs.submit(job, b"", f"{job_id} {secrets.token_hex(4)}")
        await self.jobs.cancel(tenant, "ended")
        await self.usage.add({UsageDay(tenant, 5): {"clicks": 3.0}})
        await self.usage.put_stored(UsageDay(tenant, 5), 7)

    async def keys(self) -> dict[str, list[str]]:
        """Return all keys and members that name each tenant."""
        redis: Any = self.jobs.redis
        names = [key.decode() async for key in redis.scan_iter()]
        names += [f"active {m.decode()}" for m in await redis.smembers("segserve:1:jobs:active")]
        names += [f"due {m.decode()}" for m in await redis.zrange("segserve:1:jobs:hooks", 0, -1)]
        names += [f"usage {tenant}" for tenant in await self.usage.list_tenants()]
        names += [f"stored {tenant}" for tenant in await self.usage.read_stored()]
        parts = {
            name: name.replace("/", " ").replace(":", " ").replace("{", " ").replace("}", " ").split()
            for name in names
        }
        return {
            tenant: sorted(
                name for name, words in parts.items() if tenant in words and "deletions" not in words
            )
            for tenant in (GONE, KEPT)
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    running = PrivateRedis(tmp_path_factory.mktemp("redis"), 16, durable=True)
    running.start()
    yield running
    running.stop()


def run(server: PrivateRedis, folder: Path, story: Callable[[Parts], Awaitable[None]]) -> None:
    async def connected() -> None:
        objects = open_store(None, folder)
        cache = RedisCache(server.url, 5.0, 60, 60)
        jobs = JobStore(server.url, 5.0, ttl_s=60, max_active=100, lease_s=5)
        await jobs.redis.flushall()
        parts = Parts(objects, cache, jobs, UsageStore(jobs.redis), TenantDeletions(objects))
        await story(parts)
        await cache.close()
        await jobs.close()

    asyncio.run(connected())


def test_all_of_a_tenant_is_deleted_and_nothing_of_others(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(parts: Parts) -> None:
        await parts.fill(GONE)
        await parts.fill(KEPT)
        before = await parts.keys()
        assert len(before[GONE]) == len(before[KEPT]) > 10
        deleter = parts.deleter
        await parts.deletions.mark(GONE)
        await deleter.go_on(GONE)
        assert await parts.keys() == {GONE: [], KEPT: before[KEPT]}
        with pytest.raises(JobNotFound):
            await parts.jobs.get(GONE, "queued")
        assert await parts.objects.list(f"{GONE}/") == []
        assert len(await parts.objects.list(f"{KEPT}/")) == 5
        # What a process stored that had not seen the mark is found later.
        await parts.objects.put(f"{GONE}/images/late/bytes", b"1")
        await deleter.go_on(GONE)
        assert await parts.objects.list(f"{GONE}/") == []

    run(server, tmp_path, story)


def test_a_deletion_ends_when_nothing_was_found_for_long_enough(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(parts: Parts) -> None:
        deleter = parts.deleter
        await parts.objects.put(f"{GONE}/files/a/bytes", b"1")
        marked = await parts.deletions.mark(GONE)
        assert await parts.deletions.mark(GONE) == marked, "it is being deleted already"
        await deleter.go_on(GONE)
        monkeypatch.setattr(tenant_deleter, "SEEN_S", 0.0)
        await deleter.go_on(GONE)
        clean = await parts.deletions.read(GONE)
        assert clean is not None
        assert clean.clean_since is not None
        await deleter.go_on(GONE)
        assert await parts.deletions.read(GONE) == clean
        await parts.objects.put(f"{GONE}/files/b/bytes", b"1")
        await deleter.go_on(GONE)
        again = await parts.deletions.read(GONE)
        assert again is not None
        assert again.clean_since is None, "something was found: it counts from then on"
        monkeypatch.setattr(tenant_deleter, "SETTLE_S", 0.0)
        await deleter.go_on(GONE)
        await deleter.go_on(GONE)
        assert await parts.deletions.read(GONE) is None
        assert await parts.deletions.refresh() == frozenset()
        await parts.fill(GONE)  # the name is free
        await deleter.go_on(GONE)
        assert len(await parts.objects.list(f"{GONE}/")) == 5

    run(server, tmp_path, story)


def test_another_replica_goes_on_after_a_kill(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(parts: Parts) -> None:
        monkeypatch.setattr(tenant_deleter, "LEAD_S", 600.0)
        count = DELETED_AT_ONCE + 50
        for number in range(count):
            path = tmp_path / GONE / "files" / str(number)
            path.mkdir(parents=True)
            (path / "bytes").write_bytes(b"1")
        await parts.deletions.mark(GONE)
        delete, left = parts.objects.delete, []

        async def fail_after_the_first(paths: Any) -> None:
            if left:
                raise Unavailable("Killed here.")
            await delete(paths)
            left.append(len(await parts.objects.list(f"{GONE}/")))

        monkeypatch.setattr(parts.objects, "delete", fail_after_the_first)
        killed = parts.deleter
        with pytest.raises(Unavailable):
            await killed.go_on(GONE)
        assert left == [50]
        monkeypatch.setattr(parts.objects, "delete", delete)
        other = Parts(parts.objects, parts.cache, parts.jobs, parts.usage, TenantDeletions(parts.objects))
        assert await other.deletions.refresh() == {GONE}
        await other.deleter.go_on(GONE)
        assert len(await parts.objects.list(f"{GONE}/")) == 50, "the first one may still live"
        await parts.jobs.redis.delete(redis_keys.encoding_lock(redis_keys.deleting(GONE)))  # as time does
        await other.deleter.go_on(GONE)
        assert await parts.objects.list(f"{GONE}/") == []

    run(server, tmp_path, story)


LOCK = redis_keys.encoding_lock(redis_keys.deleting(GONE))


def during_a_pass(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, event: Callable[[], Awaitable[object]]
) -> None:
    """Let something happen after a pass has deleted the tenant's objects."""
    delete_all = parts.objects.delete_all

    async def delete_slowly(path: str) -> int:
        found = await delete_all(path)
        await event()
        return found

    monkeypatch.setattr(parts.objects, "delete_all", delete_slowly)


def test_a_long_pass_keeps_its_lead(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(parts: Parts) -> None:
        async def see_a_renewal() -> None:
            async with asyncio.timeout(20):
                left_ms = await parts.jobs.redis.pttl(LOCK)
                while (now_ms := await parts.jobs.redis.pttl(LOCK)) <= left_ms:
                    left_ms = now_ms
                    await asyncio.sleep(0.01)

        monkeypatch.setattr(tenant_deleter, "LEAD_S", 0.5)
        during_a_pass(parts, monkeypatch, see_a_renewal)
        await parts.deletions.mark(GONE)
        await parts.deleter.go_on(GONE)

    run(server, tmp_path, story)


def test_a_deletion_that_ended_during_a_pass_does_not_begin_again(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(parts: Parts) -> None:
        during_a_pass(parts, monkeypatch, lambda: parts.deletions.unmark(GONE))
        await parts.fill(GONE)
        await parts.deletions.mark(GONE)
        await parts.deleter.go_on(GONE)
        assert await parts.deletions.read(GONE) is None

    run(server, tmp_path, story)


def test_who_lost_the_lead_does_not_end_a_deletion(
    server: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(parts: Parts) -> None:
        async def lose_the_lead() -> None:
            await parts.jobs.redis.set(LOCK, "another replica")

        monkeypatch.setattr(tenant_deleter, "SETTLE_S", 0.0)
        during_a_pass(parts, monkeypatch, lose_the_lead)
        mark = replace(await parts.deletions.mark(GONE), clean_since=1.0)
        await parts.deletions.write(GONE, mark)
        await parts.deleter.go_on(GONE)
        assert await parts.deletions.read(GONE) == mark

    run(server, tmp_path, story)


def test_nothing_is_stored_of_a_tenant_that_is_deleted(server: PrivateRedis, tmp_path: Path) -> None:
    async def story(parts: Parts) -> None:
        quota = open_quota(parts.objects, server.url)
        await parts.deletions.mark(GONE)
        await quota._deletions.refresh()
        with pytest.raises(TenantDeleted):
            async with quota.reserve(GONE, 1):
                raise AssertionError
        with pytest.raises(TenantDeleted):
            await quota.check_room(GONE, 1)
        async with quota.reserve(KEPT, 1):
            pass
        await close_quota(quota)

    run(server, tmp_path, story)


def test_replicas_are_told(server: PrivateRedis, tmp_path: Path) -> None:
    async def story(parts: Parts) -> None:
        notices = parts.cache.listen()
        assert await anext(notices) is None
        await parts.deletions.mark(GONE)
        await parts.deleter.go_on(GONE)
        while (notice := await anext(notices)) is None:
            continue
        assert notice == TenantGone(GONE)
        await notices.aclose()  # type: ignore[attr-defined]

    run(server, tmp_path, story)


def test_without_a_cache_it_waits(tmp_path: Path, server: PrivateRedis) -> None:
    async def story(parts: Parts) -> None:
        away = RedisCache("unix:///nowhere", 1.0, 60, 60)
        await parts.deletions.mark(GONE)
        deleter = TenantDeleter(parts.deletions, parts.objects, away, None, None)
        with pytest.raises(CacheUnavailable):
            await deleter.go_on(GONE)
        await away.close()

    run(server, tmp_path, story)
