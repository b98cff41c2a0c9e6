"""The AIS decoder's maps of an image, from the nearest cache that has them.

    this process -> Redis -> decoded from the embedding

So a request with other parameters repeats only the watershed. Maps that were evicted or lost are decoded again, like
embeddings. The maps of a deleted image are removed everywhere.
"""

import asyncio
from contextlib import suppress

import numpy as np
from cachetools import LRUCache

from segserve.bounded_executor import BoundedExecutor
from segserve.encode.embeddings import Embeddings
from segserve.encode.prepared_cache import EmbeddingKey
from segserve.errors import CacheUnavailable, ImageNotFound
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.store.image_store import ImageStore
from segserve.store.redis_cache import RedisCache
from segserve.timing import Timings
from segserve.types import Embedding, Float32, Region, UInt16

FIXED_POINT_ONE = 65_535  # the uint16 value that stands for 1.0


def pack_maps(maps: Float32) -> UInt16:
    """Convert values of 0 to 1 to 16-bit fixed point.

    That is half the bytes, exact to 8e-6, a thirtieth of fp16's error.
    """
    packed: UInt16 = np.rint(np.clip(maps, 0, 1) * np.float32(FIXED_POINT_ONE)).astype(np.uint16)
    return packed


def unpack_maps(packed: UInt16) -> Float32:
    """Return the maps that `pack_maps` packed, as values of 0 to 1."""
    return packed * np.float32(1 / FIXED_POINT_ONE)


class AisMapCache:
    """`AisMapCache` returns the maps of an image and decodes them if nobody has them yet.

    Use it from one thread, the event loop's.

    executor: decodes the maps, as work on a whole image.
    max_bytes: of the maps kept in this process; the least recently used are evicted.
    """

    def __init__(
        self,
        images: ImageStore,
        redis: RedisCache,
        embeddings: Embeddings,
        executor: BoundedExecutor,
        metrics: Metrics,
        max_bytes: int,
    ) -> None:
        self._images, self._redis, self._embeddings = images, redis, embeddings
        self._executor, self._metrics = executor, metrics
        self._entries: LRUCache[EmbeddingKey, UInt16] = LRUCache(
            max_bytes, getsizeof=lambda maps: maps.nbytes
        )
        self._running: dict[EmbeddingKey, asyncio.Task[UInt16]] = {}

    async def get(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        timings: Timings,
        region: Region | None = None,
    ) -> UInt16:
        """Return the maps [3, h, h] of a region, or of the whole image, packed as by `pack_maps`.

        Raises Busy, and what `Embeddings.get_prepared` raises.
        """
        key = EmbeddingKey(tenant, image_id, model.embedding_digest, region)
        cached = self._entries.get(key)
        if cached is not None:
            self._metrics.whole_images.count_ais_maps("process")
            return cached
        task = self._running.get(key)
        if task is None:
            # A task of its own: a client that disconnects must not cancel the work that others wait for.
            task = self._running[key] = asyncio.create_task(self._load(key, model, timings))
            task.add_done_callback(lambda done: self._remove_task(key, done))
        return await asyncio.shield(task)

    def _remove_task(self, key: EmbeddingKey, task: asyncio.Task[UInt16]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # mark it as retrieved, because every waiter may be gone

    async def _load(self, key: EmbeddingKey, model: PromptableModel, timings: Timings) -> UInt16:
        """Return the maps from Redis or from the decoder, and keep them."""
        maps = await self._read_redis(key, timings)
        self._metrics.whole_images.count_ais_maps("decoder" if maps is None else "redis")
        if maps is None:
            prepared = await self._embeddings.get_prepared(
                key.tenant, key.image_id, model, timings, region=key.region
            )
            maps = await self._executor.run(decode_maps, model, prepared.embedding, timings)
            with suppress(CacheUnavailable):
                await self._redis.put_maps(key.tenant, key.image_id, key.digest, maps, key.region)
        # If the image was deleted meanwhile, neither the caller nor a cache may keep its maps.
        try:
            await self._images.get_record(key.tenant, key.image_id)
        except ImageNotFound:
            await self._redis.forget(key.tenant, key.image_id, [key.digest])
            raise
        if maps.nbytes <= self._entries.maxsize:
            self._entries[key] = maps
        self._report_size()
        return maps

    async def _read_redis(self, key: EmbeddingKey, timings: Timings) -> UInt16 | None:
        with suppress(CacheUnavailable), timings.stage("cache"):
            return await self._redis.get_maps(key.tenant, key.image_id, key.digest, key.region)
        return None

    def forget(self, tenant: str, image_id: str) -> None:
        """Remove the maps of an image from this process."""
        for key in [k for k in self._entries if (k.tenant, k.image_id) == (tenant, image_id)]:
            del self._entries[key]
        self._report_size()

    def images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of every image of which this process keeps maps."""
        return {(key.tenant, key.image_id) for key in self._entries}

    def _report_size(self) -> None:
        self._metrics.caches.set_size("maps", len(self._entries), int(self._entries.currsize))


def decode_maps(model: PromptableModel, embedding: Embedding, timings: Timings) -> UInt16:
    """Run the AIS decoder on an embedding and return the packed maps [3, h, h]."""
    with timings.stage("maps"):
        return pack_maps(model.predict_ais_maps(embedding))
