"""Usage by day is written once, whatever is lost on the way, and is cheap to count."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from segserve.errors import JobsUnavailable
from segserve.identity.tenant_policies import TenantPolicies
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.usage_store import UsageStore, UsageWriter
from segserve.metrics import OTHER_TENANTS, Metrics, UsageDay
from segserve.store.object_store import open_store
from segserve.store.private_redis import PrivateRedis
from segserve.store.storage_counts import StorageCounts
from segserve.types import UsageKind


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    running = PrivateRedis(tmp_path_factory.mktemp("redis"), 16, durable=True)
    running.start()
    yield running
    running.stop()


def run(server: PrivateRedis, story: Callable[[redis.Redis], Awaitable[None]]) -> None:
    async def connected() -> None:
        store = JobStore(server.url, 5.0, ttl_s=60, max_active=1, lease_s=5)
        await story(store.redis)
        await store.close()

    asyncio.run(connected())


def test_what_is_counted_can_be_read_by_day(server: PrivateRedis) -> None:
    async def story(client: redis.Redis) -> None:
        metrics = Metrics()
        first, second = UsageStore(client), UsageStore(client)
        for _ in range(3):
            metrics.usage.count("a", UsageKind.CLICKS)
        metrics.usage.count("a", UsageKind.JOB_SECONDS, 1.5)
        metrics.usage.count("b", UsageKind.CLICKS, 2)
        today = metrics.usage.today("a").day
        await first.add(metrics.usage.take_counts())
        assert metrics.usage.take_counts() == {}
        await second.add({UsageDay("a", today): {"clicks": 1}, UsageDay("a", today - 1): {"clicks": 7}})
        assert await first.read("a", today - 1, today) == {
            today - 1: {"clicks": 7.0},
            today: {"clicks": 4.0, "job_seconds": 1.5},
        }
        assert await first.read("a", today, today + 2) == {today: {"clicks": 4.0, "job_seconds": 1.5}}
        assert await first.read("b", today, today) == {today: {"clicks": 2.0}}
        assert await first.list_tenants() == ["a", "b"]

    run(server, story)


def test_a_write_whose_answer_was_lost_counts_once(server: PrivateRedis) -> None:
    class LosesAnswers:
        """A Redis that does what it is told, and whose answer is lost at first."""

        def __init__(self, client: redis.Redis) -> None:
            self._client, self.lost = client, 0

        async def eval(self, *arguments: Any) -> Any:
            answer = await self._client.eval(*arguments)
            if self.lost < 2:
                self.lost += 1
                raise TimeoutError
            return answer

    async def story(client: redis.Redis) -> None:
        store = UsageStore(LosesAnswers(client))  # type: ignore[arg-type]
        counts = {UsageDay("lost", 5): {"clicks": 1.0}, UsageDay("lost", 6): {"clicks": 2.0}}
        with pytest.raises(JobsUnavailable):
            await store.add(counts)
        with pytest.raises(JobsUnavailable):
            await store.add({})
        await store.add({UsageDay("lost", 6): {"clicks": 10.0}})
        assert await UsageStore(client).read("lost", 5, 6) == {5: {"clicks": 1.0}, 6: {"clicks": 12.0}}

    run(server, story)


def test_what_a_redis_that_is_away_did_not_take_is_kept(server: PrivateRedis, tmp_path: Path) -> None:
    async def story(client: redis.Redis) -> None:
        metrics, objects = Metrics(), open_store(None, tmp_path)
        counts: Any = StorageCounts(objects, None)  # type: ignore[arg-type]
        away = JobStore("unix:///nowhere", 1.0, ttl_s=60, max_active=1, lease_s=5)
        store = UsageStore(away.redis)
        writer = UsageWriter(store, objects, counts, TenantPolicies(), metrics)
        for _ in range(3):
            metrics.usage.count("kept", UsageKind.CLICKS)
            with pytest.raises(JobsUnavailable):
                await writer.write()
        store._redis = client
        await writer.write()
        day = metrics.usage.today("kept").day
        assert await store.read("kept", day, day) == {day: {"clicks": 3.0}}
        await away.close()

    run(server, story)


def test_one_replica_measures_what_is_stored_and_all_show_it(server: PrivateRedis, tmp_path: Path) -> None:
    async def story(client: redis.Redis) -> None:
        objects = open_store(None, tmp_path)
        await objects.put("named/images/1/bytes", bytes(100))
        await objects.put("b/files/1/bytes", bytes(20))
        await objects.put("c/files/1/bytes", bytes(3))
        counts: Any = StorageCounts(objects, None)  # type: ignore[arg-type]
        metrics = [Metrics(), Metrics()]
        for each in metrics:
            each.usage.name_tenants(frozenset(("default", "named")))
        stores = [UsageStore(client), UsageStore(client)]
        writers = [
            UsageWriter(s, objects, counts, TenantPolicies(), m) for s, m in zip(stores, metrics, strict=True)
        ]
        measuring = [asyncio.create_task(writer.measure_storage()) for writer in writers]
        while len(await stores[0].read_stored()) < 3:
            await asyncio.sleep(0.02)
        for task in measuring:
            task.cancel()
        await asyncio.gather(*measuring, return_exceptions=True)
        metrics[1].usage.set_stored(await stores[1].read_stored())
        text = metrics[1].expose().decode()
        assert 'segserve_stored_bytes{tenant="named"} 100.0' in text
        assert f'segserve_stored_bytes{{tenant="{OTHER_TENANTS}"}} 23.0' in text
        day = metrics[1].usage.today("b").day
        assert (await stores[1].read("b", day, day))[day]["stored_bytes"] == 20
        await stores[0].forget("b")
        assert "b" not in await stores[0].read_stored()

    run(server, story)


def test_tenants_that_nobody_named_share_a_series() -> None:
    metrics = Metrics()
    metrics.usage.name_tenants(frozenset(("default",)))
    for number in range(1000):
        metrics.usage.count(f"tenant-{number}", UsageKind.CLICKS)
    metrics.usage.count("default", UsageKind.CLICKS)
    series = [
        line for line in metrics.expose().decode().splitlines() if line.startswith("segserve_usage_total")
    ]
    assert sorted(series) == [
        f'segserve_usage_total{{kind="clicks",tenant="{OTHER_TENANTS}"}} 1000.0',
        'segserve_usage_total{kind="clicks",tenant="default"} 1.0',
    ]
    assert len(metrics.usage.take_counts()) == 1001, "each by itself, by day"
