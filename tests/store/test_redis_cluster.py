"""The cache in a Redis cluster: every command and script finds its node, and notices reach all replicas."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from limits import RateLimitItemPerHour

from segserve.errors import BadInput
from segserve.jobs.engine.jobs_redis import connect_jobs_redis
from segserve.store import redis_keys
from segserve.store.rate_counts import RedisRateCounts
from segserve.store.redis_cache import EmbeddingReady, ImageDeleted, RedisCache, pack_embedding
from segserve.store.redis_connection import check_password
from tests.redis_topologies import Cluster

IMAGES = [f"{number:064x}" for number in range(24)]
EMBEDDING = {"embedding": np.ones((1, 4, 4), np.float32)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.close()


def open_cache(cluster: Cluster) -> RedisCache:
    return RedisCache(cluster.url, 5, 60, 60)


async def fill(cache: RedisCache) -> None:
    for image_id in IMAGES:
        await cache.put_embedding("t", image_id, "digest", pack_embedding(EMBEDDING))
        await cache.put_maps("t", image_id, "digest", np.full((3, 2, 2), 7, np.uint16))
        await cache.put_masks(
            "t", image_id, {"a": np.zeros((4, 4), np.float16), "b": np.ones((4, 4), np.float16)}
        )


def test_images_are_kept_on_all_nodes_and_each_image_on_one(cluster: Cluster) -> None:
    async def work() -> tuple[int, int, int]:
        cache = open_cache(cluster)
        await fill(cache)
        for image_id in IMAGES:
            embedding = await cache.get_embedding("t", image_id, "digest")
            assert embedding is not None
            np.testing.assert_array_equal(embedding["embedding"], EMBEDDING["embedding"])
            maps, mask = (
                await cache.get_maps("t", image_id, "digest"),
                await cache.get_mask("t", image_id, "b"),
            )
            assert maps is not None
            assert mask is not None
            assert maps.max() == 7
            assert mask.max() == 1
        usage = await cache.usage()
        await cache.close()
        return usage

    keys, used, _ = asyncio.run(work())
    on_nodes = [int(node.call("DBSIZE")) for node in cluster.nodes]
    assert keys == sum(on_nodes) == 5 * len(IMAGES)  # four values, and the set of their keys
    assert min(on_nodes) > 0
    assert used > 1_000_000
    for image_id in IMAGES:
        counts = [len(node.call("KEYS", f"{redis_keys.image('t', image_id)}*")) for node in cluster.nodes]
        assert sorted(counts) == [0, 0, 5]


def test_a_deleted_image_is_gone_with_everything_that_was_made_of_it(cluster: Cluster) -> None:
    async def work() -> None:
        cache = open_cache(cluster)
        await fill(cache)
        for image_id in IMAGES:
            await cache.forget("t", image_id, ["digest"])
        await cache.close()

    asyncio.run(work())
    assert [int(node.call("DBSIZE")) for node in cluster.nodes] == [0, 0, 0]


def test_a_deleted_tenant_is_gone_from_all_nodes(cluster: Cluster) -> None:
    async def work() -> int:
        cache = open_cache(cluster)
        await fill(cache)
        count = await cache.delete_keys(redis_keys.patterns_of_tenant("t"))
        await cache.close()
        return count

    assert asyncio.run(work()) == 5 * len(IMAGES)
    assert [int(node.call("DBSIZE")) for node in cluster.nodes] == [0, 0, 0]


def test_one_replica_leads_and_all_hear_of_it(cluster: Cluster) -> None:
    """Whichever node each of them listens to."""

    async def work() -> None:
        caches = [open_cache(cluster) for _ in range(6)]
        key = redis_keys.embedding("t", IMAGES[0], "digest")
        assert await caches[0].acquire_lead(key, "first", 5)
        assert not await caches[1].acquire_lead(key, "second", 5)
        assert await caches[0].acquire_lead(key, "first", 5), "it renews its lead"
        listeners = [cache.listen() for cache in caches]
        for listener in listeners:
            assert await asyncio.wait_for(anext(listener), 20) is None
        await caches[0].release_lead(key, "first")
        await caches[0].forget("t", IMAGES[0], [])
        for listener in listeners:
            for expected in (EmbeddingReady(key), ImageDeleted("t", IMAGES[0])):
                # Nodes pass notices on in their own time: those of earlier tests may come first.
                while await asyncio.wait_for(anext(listener), 20) != expected:
                    pass
            await listener.aclose()  # type: ignore[attr-defined]
        assert await caches[1].acquire_lead(key, "second", 5)
        await caches[1].release_lead(key, "second")
        for cache in caches:
            await cache.close()

    asyncio.run(work())


def test_a_wrong_password_is_told(cluster: Cluster) -> None:
    url = cluster.url.replace("://", "://someone:word@")
    with pytest.raises(BadInput, match="refuses the user or the password"):
        asyncio.run(check_password(url, 5, "SEGSERVE_REDIS_URL"))


def test_jobs_are_not_kept_in_a_cluster(cluster: Cluster) -> None:
    with pytest.raises(BadInput, match="cluster") as refusal:
        connect_jobs_redis(cluster.url, 5)
    assert "redis+sentinel://" in refusal.value.remedy


def test_rates_are_counted_there_too(cluster: Cluster) -> None:
    async def work() -> list[bool]:
        first, second = (RedisRateCounts(cluster.url, 5) for _ in range(2))
        rate = RateLimitItemPerHour(3)
        hits = [await counts.hit(rate, "who", 1) for counts in (first, second, first, second)]
        assert (await second.look(rate, "who"))[0] == 0
        for counts in (first, second):
            await counts.close()
        return hits

    assert asyncio.run(work()) == [True, True, True, False]
