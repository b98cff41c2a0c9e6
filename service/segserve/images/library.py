"""The images that were uploaded: taking them in, and letting go of all that was made from them."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import BinaryIO

import structlog

from segserve.errors import ImageNotFound, SegserveError
from segserve.images.read import read_image
from segserve.models.registry import Registry
from segserve.store import keys
from segserve.store.cache import Cache
from segserve.store.images import ImageStore
from segserve.types import DEFAULT_TENANT, ImageRecord, ReadOptions, Size, UInt8

READ_CHUNK = 1 << 20
Forget = Callable[[str, str], None]

log = structlog.get_logger(__name__)


def identify(file: BinaryIO, options: ReadOptions) -> tuple[str, int]:
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


class Library:
    """forget: called with (tenant, image_id) wherever this process holds something of a deleted image."""

    def __init__(
        self,
        store: ImageStore,
        cache: Cache,
        registry: Registry,
        workers: Executor,
        *,
        max_pixels: int,
        forget: Forget,
    ) -> None:
        self._store, self._cache, self._registry, self._workers = store, cache, registry, workers
        self._max_pixels, self._forget = max_pixels, forget

    async def add(self, tenant: str, file: BinaryIO, options: ReadOptions) -> ImageRecord:
        """Read the whole image first: what cannot be read is never stored. Raises BadInput, TooLarge."""
        loop = asyncio.get_running_loop()
        record = await loop.run_in_executor(self._workers, self._inspect, file, options)
        return await self._store.put(tenant, record, file)

    def _inspect(self, file: BinaryIO, options: ReadOptions) -> ImageRecord:
        image_id, count = identify(file, options)
        file.seek(0)
        height, width = read_image(file, options, self._max_pixels).shape[:2]
        return ImageRecord(image_id, Size(height, width), options, count, time.time())

    async def record(self, tenant: str, image_id: str) -> ImageRecord:
        """Raises ImageNotFound."""
        return await self._store.record(tenant, image_id)

    async def reader(self, tenant: str, image_id: str) -> Callable[[], UInt8]:
        """The stored bytes, fetched now; calling what is returned reads them, as `pixels` does, in the caller's
        thread and time: what waits for its turn holds a file and not its pixels. Raises ImageNotFound."""
        record = await self._store.record(tenant, image_id)
        data = await self._store.read(tenant, image_id)
        return partial(read_image, data, record.options, self._max_pixels)

    async def pixels(self, tenant: str, image_id: str) -> UInt8:
        """The image as models see it, [H, W, 3] RGB. Raises ImageNotFound."""
        read = await self.reader(tenant, image_id)
        return await asyncio.get_running_loop().run_in_executor(self._workers, read)

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
                await self._store.record(tenant, image_id)
            except ImageNotFound:
                self._forget(tenant, image_id)
            except SegserveError as error:
                log.warning("held image not checked", reason=str(error))

    async def expire(self, age: timedelta, every_s: float) -> None:
        """Delete images older than `age`. Runs until cancelled."""
        while True:
            try:
                for image_id in await self._store.older_than(DEFAULT_TENANT, age):
                    with suppress(ImageNotFound):  # bytes without a record are gone all the same
                        await self.delete(DEFAULT_TENANT, image_id)
                    log.info("image expired", image_id=image_id)
            except SegserveError as error:
                log.warning("expiry interrupted", reason=str(error))
            await asyncio.sleep(every_s)
