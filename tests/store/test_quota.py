"""Quotas hold for all replicas together, whatever is killed, and are counted from the object store where nothing else
is known."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from segserve.errors import CacheUnavailable, SegserveError, TooLarge
from segserve.store import storage_counts
from segserve.store.image_store import ImageStore
from segserve.store.list_tenants import list_tenants
from segserve.store.object_store import ObjectStore, open_store
from segserve.store.private_redis import PrivateRedis
from segserve.store.quota import Quota
from segserve.store.storage_counts import Stored
from segserve.types import ImageRecord, ReadOptions, Size
from tests.quotas import close_quota, open_quota

RECORD_BYTES = 300  # about what a record takes in a listing; quotas count it only from there


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    server = PrivateRedis(tmp_path_factory.mktemp("redis"), 16)
    server.start()
    yield server
    server.stop()


async def put_image(store: ImageStore, tenant: str, number: int, nbytes: int) -> str:
    image_id = f"{number:064x}"
    record = ImageRecord(image_id, Size(1, 1), ReadOptions(), nbytes, 0.0)
    await store.put(tenant, record, io.BytesIO(bytes(nbytes)))
    return image_id


async def try_all(attempts: list[Awaitable[object]]) -> int:
    """Return how many attempts are not refused."""
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(isinstance(answer, (str, TooLarge)) for answer in answers), answers
    return sum(isinstance(answer, str) for answer in answers)


def run(tmp_path: Path, story: Callable[[ObjectStore], Awaitable[None]]) -> None:
    asyncio.run(story(open_store(None, tmp_path)))


async def close(*quotas: Quota) -> None:
    for quota in quotas:
        await close_quota(quota)


def test_two_replicas_at_once_never_exceed_a_quota(redis: PrivateRedis, tmp_path: Path) -> None:
    async def story(objects: ObjectStore) -> None:
        quotas = [open_quota(objects, redis.url, max_bytes=100_000, max_images=7) for _ in range(2)]
        stores = [ImageStore(objects, quota) for quota in quotas]
        by_images = [put_image(stores[n % 2], "many", n, 10) for n in range(30)]
        assert await try_all([*by_images]) == 7
        by_bytes = [put_image(stores[n % 2], "large", n, 30_000) for n in range(10)]
        assert await try_all([*by_bytes]) == 3
        with pytest.raises(TooLarge, match="quota of 7 images"):
            await put_image(stores[0], "many", 99, 10)
        await stores[1].delete("many", await put_first(stores[0], "many"))
        await put_image(stores[0], "many", 99, 10)
        assert (await quotas[0]._counts.read("large")).bytes == 90_000, (
            "records count from the next listing on"
        )
        await close(*quotas)

    run(tmp_path, story)


async def put_first(store: ImageStore, tenant: str) -> str:
    """Return the id of an image that is stored."""
    for number in range(30):
        try:
            return (await store.get_record(tenant, f"{number:064x}")).image_id
        except SegserveError:
            continue
    raise AssertionError


def test_what_a_killed_process_left_is_counted_again(
    redis: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(objects: ObjectStore) -> None:
        quota = open_quota(objects, redis.url, max_bytes=1000)
        counts = quota._counts
        assert await counts.read("killed") == Stored(0, 0)
        # It had reserved, had stored and had not said so.
        await counts.reserve("killed", Stored(600, 1), Stored(1000), "token")
        await objects.put("killed/images/a/bytes", bytes(600))
        await objects.put("killed/images/a/record.json", b"{}")
        with pytest.raises(TooLarge):
            await quota.check_room("killed", 500)
        await counts._cache.run_script(
            "return redis.call('DEL', KEYS[1])", [storage_counts.redis_keys.reserved("killed")]
        )
        await quota.check_room("killed", 500)  # its reservation has ended, and nothing was listed again
        await counts._count("killed")
        assert await counts.read("killed") == Stored(602, 1)
        with pytest.raises(TooLarge):
            await quota.check_room("killed", 500)
        await close(quota)

    run(tmp_path, story)


def test_a_listing_beside_uploads_and_deletions_moves_no_count_that_they_explain(
    redis: PrivateRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(objects: ObjectStore) -> None:
        quota = open_quota(objects, redis.url, max_bytes=10_000)
        counts = quota._counts
        await objects.put("busy/files/a/bytes", bytes(1000))
        assert (await counts.read("busy")).bytes == 1000
        listed = counts._list

        async def list_and_change(tenant: str, is_early: bool) -> Stored:
            before = await listed(tenant)
            async with quota.reserve(tenant, 300):
                await objects.put("busy/files/b/bytes", bytes(300))
            await quota.release(tenant, 1000)
            await objects.delete("busy/files/a/bytes")
            return before if is_early else await listed(tenant)

        for is_early in (True, False):
            monkeypatch.setattr(counts, "_list", partial(list_and_change, is_early=is_early))
            await counts._count("busy")
            monkeypatch.setattr(counts, "_list", listed)
            assert (await counts.read("busy")).bytes == 300
            async with quota.reserve("busy", 1000):
                await objects.put("busy/files/a/bytes", bytes(1000))
            await objects.delete("busy/files/b/bytes")
            await quota.release("busy", 300)
            await counts._count("busy")
            assert (await counts.read("busy")).bytes == 1000
        await close(quota)

    run(tmp_path, story)


def test_a_redis_that_lost_all_counts_again(redis: PrivateRedis, tmp_path: Path) -> None:
    async def story(objects: ObjectStore) -> None:
        quota = open_quota(objects, redis.url, max_images=2)
        store = ImageStore(objects, quota)
        assert await try_all([put_image(store, "lost", n, 10) for n in range(5)]) == 2
        await quota._counts._cache.run_script("return redis.call('FLUSHALL')", [])
        assert await try_all([put_image(store, "lost", n, 10) for n in range(5, 9)]) == 0
        await close(quota)

    run(tmp_path, story)


def test_no_redis_refuses_a_tenant_with_limits_only(tmp_path: Path) -> None:
    async def story(objects: ObjectStore) -> None:
        limited = open_quota(objects, "unix:///nowhere", max_bytes=1000)
        with pytest.raises(CacheUnavailable):
            await put_image(ImageStore(objects, limited), "a", 1, 10)
        unlimited = open_quota(objects, "unix:///nowhere")
        await put_image(ImageStore(objects, unlimited), "a", 1, 10)
        await ImageStore(objects, limited).delete("a", f"{1:064x}")
        assert await list_tenants(objects) == []
        await close(limited, unlimited)

    run(tmp_path, story)


def test_tenants_are_the_folders_that_a_tenant_may_have(tmp_path: Path) -> None:
    async def story(objects: ObjectStore) -> None:
        for path in ("b/images/x", "a/files/x", "_other/x", "top"):
            await objects.put(path, b"1")
        assert await list_tenants(objects) == ["a", "b"]
        assert await objects.list_folders("a/") == ["files"]

    run(tmp_path, story)
