"""The images that were uploaded: taking them in, and letting go of all that was made from them."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import timedelta
from typing import BinaryIO

import structlog

from segserve.errors import ImageNotFound, SegserveError
from segserve.images.build_pyramid import PyramidBuilder
from segserve.images.image_source import ImageSource, check_size
from segserve.images.read_image import decode_source, open_image
from segserve.images.region_reader import RegionReader
from segserve.models.registry import ModelRegistry
from segserve.store import keys
from segserve.store.image_store import ImageStore
from segserve.store.redis_cache import RedisCache
from segserve.types import DEFAULT_TENANT, ImageLimits, ImageRecord, ReadOptions, Size, UInt8

READ_CHUNK = 1 << 20
ForgetImage = Callable[[str, str], None]

log = structlog.get_logger(__name__)


def compute_content_id(file: BinaryIO, options: ReadOptions) -> tuple[str, int]:
    """(image_id, bytes): the sha256 of the bytes, and of the options where they are not the defaults."""
    digest, count = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(READ_CHUNK):
        digest.update(chunk)
        count += len(chunk)
    if extra := keys.identity(options):
        # Hashed again, not appended: bytes that end like options must not stand for another image with them.
        digest = hashlib.sha256(digest.digest() + extra)
    return digest.hexdigest(), count


class ImageLibrary:
    """forget: called with (tenant, image_id) wherever this process holds something of a deleted image."""

    def __init__(
        self,
        store: ImageStore,
        stored: RegionReader,
        cache: RedisCache,
        registry: ModelRegistry,
        workers: Executor,
        *,
        limits: ImageLimits,
        forget: ForgetImage,
    ) -> None:
        self._store, self._cache, self._registry, self._workers = store, cache, registry, workers
        self._stored, self._retiler = stored, PyramidBuilder(store, workers)
        self._limits, self._forget = limits, forget

    async def add(self, tenant: str, file: BinaryIO, options: ReadOptions) -> ImageRecord:
        """Read the whole image first: what cannot be read is never stored. Raises BadInput, TooLarge."""
        loop = asyncio.get_running_loop()
        image_id, count = await loop.run_in_executor(self._workers, compute_content_id, file, options)
        with suppress(ImageNotFound):
            return await self._store.get_record(tenant, image_id)
        source = await loop.run_in_executor(self._workers, self._open, file, options)
        if max(source.size.height, source.size.width) > self._limits.tile_from:
            await self._store.quota.check_room(tenant, count)
            return await self._retiler.add(tenant, image_id, file, count, source, options)
        size = await loop.run_in_executor(self._workers, self._inspect, source, options)
        return await self._store.put(tenant, ImageRecord(image_id, size, options, count, time.time()), file)

    def _open(self, file: BinaryIO, options: ReadOptions) -> ImageSource:
        return open_image(file, options.page, self._limits.pixels, self._limits.tiled_pixels)

    def _inspect(self, source: ImageSource, options: ReadOptions) -> Size:
        check_size(source.size.width, source.size.height, self._limits.pixels)
        return Size(*decode_source(source, options).shape[:2])

    async def record(self, tenant: str, image_id: str) -> ImageRecord:
        """Raises ImageNotFound."""
        return await self._store.get_record(tenant, image_id)

    async def prepare_read(self, tenant: str, image_id: str) -> Callable[[], UInt8]:
        """Calling what is returned, in any thread but the event loop's, reads the image as `pixels` does: what waits
        for its turn holds no pixels. Raises ImageNotFound."""
        record = await self._store.get_record(tenant, image_id)
        loop = asyncio.get_running_loop()
        return lambda: asyncio.run_coroutine_threadsafe(self._stored.read(tenant, record), loop).result()

    async def read_pixels(self, tenant: str, image_id: str) -> UInt8:
        """The image as models see it, [H, W, 3] RGB. Raises ImageNotFound, TooLarge."""
        return await self._stored.read(tenant, await self._store.get_record(tenant, image_id))

    async def delete(self, tenant: str, image_id: str) -> None:
        """The image goes, and with it its embeddings and masks, on every replica. Raises ImageNotFound;
        CacheUnavailable after the image is gone, when its embeddings wait for their expiry."""
        digests = [bundle.digest for bundle in self._registry.bundles().values()]
        try:
            await self._store.delete(tenant, image_id)
        finally:
            # Also where the image is gone already: an earlier deletion may have met a cache that was away.
            self._forget(tenant, image_id)
            await self._cache.forget(tenant, image_id, digests)

    async def forget_missing(self, held: set[tuple[str, str]]) -> None:
        """Forget those of the held (tenant, image_id) that other replicas deleted unheard."""
        for tenant, image_id in held:
            try:
                await self._store.get_record(tenant, image_id)
            except ImageNotFound:
                self._forget(tenant, image_id)
            except SegserveError as error:
                log.warning("held image not checked", reason=str(error))

    async def expire(self, age: timedelta, every_s: float) -> None:
        """Delete images older than `age`. Runs until cancelled."""
        while True:
            try:
                for image_id in await self._store.list_older_than(DEFAULT_TENANT, age):
                    with suppress(ImageNotFound):  # bytes without a record are gone all the same
                        await self.delete(DEFAULT_TENANT, image_id)
                    log.info("image expired", image_id=image_id)
            except SegserveError as error:
                log.warning("expiry interrupted", reason=str(error))
            await asyncio.sleep(every_s)
