"""The stores: the cache in Redis, and the object store with its images and files."""

import asyncio
import os
from concurrent.futures import Executor
from pathlib import Path

import structlog

from segserve.errors import BadInput
from segserve.identity.tenant_policies import TenantPolicies
from segserve.images.region_reader import RegionReader
from segserve.memory_budget import MemoryBudget
from segserve.private_folders import check_private_folder, create_private_folder
from segserve.settings import Settings
from segserve.store.file_store import FileStore
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.store.private_redis import PrivateRedis
from segserve.store.quota import Quota
from segserve.store.redis_cache import SETTING, RedisCache
from segserve.store.redis_connection import check_password
from segserve.store.storage_counts import StorageCounts
from segserve.store.tenant_deletions import TenantDeletions

log = structlog.get_logger(__name__)


class Storage:
    """`Storage` holds the stores of one process, and the private Redis if no other is set.

    read_pool: threads that read and decode images.
    image_memory: what decoding may take in this process.
    policies: how much tenants may store.
    cache_url: of the cache's Redis, the private one's if no other is set.
    Raises BadInput for a data folder, Redis or object store that cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        read_pool: Executor,
        image_memory: MemoryBudget,
        policies: TenantPolicies,
    ) -> None:
        create_data_dir(settings.data_dir)
        self._redis_url, self._redis_timeout_s = settings.redis_url, settings.redis_timeout_s
        url = settings.redis_url
        self.private_redis: PrivateRedis | None = None
        if url is None:
            self.private_redis = PrivateRedis(settings.data_dir / "redis", settings.cache_mb)
            url = self.private_redis.url
        self.cache_url = url
        self.cache = RedisCache(url, settings.redis_timeout_s, settings.embedding_ttl_s, settings.mask_ttl_s)
        self.objects = open_store(settings.object_store, settings.data_dir / "objects")
        self.counts = StorageCounts(self.objects, self.cache)
        self.deletions = TenantDeletions(self.objects)
        quota = Quota(policies, self.counts, self.deletions)
        self.images = ImageStore(self.objects, quota)
        self.files = FileStore(self.objects, quota)
        self.region_reader = RegionReader(
            self.images, read_pool, image_memory, settings.image_limits.max_pixels
        )

    async def start(self) -> None:
        """Start the private Redis, or adopt the one that runs already.

        Raises BadInput where another Redis or the object store refuses us.
        """
        await self.objects.check()
        if self._redis_url is not None:
            await check_password(self._redis_url, self._redis_timeout_s, SETTING)
        if self.private_redis is not None:
            started = await asyncio.to_thread(self.private_redis.start)
            socket = str(self.private_redis.socket)
            log.info("private Redis " + ("started" if started else "adopted"), socket=socket)

    async def close_cache(self) -> None:
        await self.counts.close()
        await self.cache.close()

    async def stop_redis(self) -> None:
        if self.private_redis is not None:
            await asyncio.to_thread(self.private_redis.stop)


# In the data folder; `models` is not among them, since models may come from an administrator.
PRIVATE_FOLDERS = ("objects", "redis", "jobs", "tmp")


def create_data_dir(path: Path) -> None:
    """Create the data folder, or check the one that is there, with the folders in it.

    Raises BadInput if it cannot be written to, or if other users may change it.
    """
    try:
        create_private_folder(path)
        for name in PRIVATE_FOLDERS:
            if (path / name).is_dir():
                check_private_folder(path / name)
        usable = os.access(path, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        raise BadInput(
            f"The data folder {path} cannot be written to.",
            field="data_dir",
            remedy="Give another with --data-dir or SEGSERVE_DATA_DIR.",
        )
