"""The stores: the cache in Redis, and the object store with its images and files."""

import asyncio
import os
from concurrent.futures import Executor
from pathlib import Path

import structlog

from segserve.errors import BadInput
from segserve.images.region_reader import RegionReader
from segserve.memory_budget import MemoryBudget
from segserve.settings import Settings
from segserve.store.file_store import FileStore
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.store.private_redis import PrivateRedis
from segserve.store.redis_cache import RedisCache
from segserve.types import MB

log = structlog.get_logger(__name__)


class Storage:
    """`Storage` holds the stores of one process, and the private Redis if no other is set.

    read_pool: threads that read and decode images.
    image_memory: what decoding may take in this process.
    Raises BadInput for a data folder, Redis or object store that cannot be used.
    """

    def __init__(self, settings: Settings, read_pool: Executor, image_memory: MemoryBudget) -> None:
        create_data_dir(settings.data_dir)
        url = settings.redis_url
        self.private_redis: PrivateRedis | None = None
        if url is None:
            self.private_redis = PrivateRedis(settings.data_dir / "redis", settings.cache_mb)
            url = self.private_redis.url
        self.cache = RedisCache(url, settings.redis_timeout_s, settings.embedding_ttl_s, settings.mask_ttl_s)
        self.objects = open_store(settings.object_store, settings.data_dir / "objects")
        self.images = ImageStore(self.objects, settings.quota_mb * MB)
        self.files = FileStore(self.objects, self.images.quota)
        self.region_reader = RegionReader(
            self.images, read_pool, image_memory, settings.image_limits.max_pixels
        )

    async def start(self) -> None:
        """Start the private Redis, or adopt the one that runs already."""
        if self.private_redis is not None:
            started = await asyncio.to_thread(self.private_redis.start)
            socket = str(self.private_redis.socket)
            log.info("private Redis " + ("started" if started else "adopted"), socket=socket)

    async def close_cache(self) -> None:
        await self.cache.close()

    async def stop_redis(self) -> None:
        if self.private_redis is not None:
            await asyncio.to_thread(self.private_redis.stop)


def create_data_dir(path: Path) -> None:
    """Create the data folder. Raises BadInput if that fails or it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        usable = os.access(path, os.W_OK | os.X_OK)
    except OSError:
        usable = False
    if not usable:
        raise BadInput(
            f"The data folder {path} cannot be written to.",
            field="data_dir",
            remedy="Give another with --data-dir or SEGSERVE_DATA_DIR.",
        )
