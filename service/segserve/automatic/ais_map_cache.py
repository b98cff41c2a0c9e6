"""The automatic decoder's maps of an image, by the shortest way.

    held in this process -> in Redis -> decoded from the embedding

So a changed parameter costs the post-processing alone. Like embeddings, maps that were evicted or lost are
made again, and those of a deleted image are forgotten everywhere.
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

FIXED_POINT_ONE = 65_535  # what stands for 1.0


def pack_maps(maps: Float32) -> UInt16:
    """Values of 0 to 1 in 16-bit fixed point: half the bytes, to within 8e-6, a thirtieth of fp16's error."""
    packed: UInt16 = np.rint(np.clip(maps, 0, 1) * np.float32(FIXED_POINT_ONE)).astype(np.uint16)
    return packed


def unpack_maps(packed: UInt16) -> Float32:
    return packed * np.float32(1 / FIXED_POINT_ONE)


class AisMapCache:
    """max_bytes: of the maps held in this process, least recently used out."""

    def __init__(
        self,
        images: ImageStore,
        cache: RedisCache,
        embeddings: Embeddings,
        turns: BoundedExecutor,
        metrics: Metrics,
        max_bytes: int,
    ) -> None:
        self._images, self._cache, self._embeddings = images, cache, embeddings
        self._turns, self._metrics = turns, metrics
        self._held: LRUCache[EmbeddingKey, UInt16] = LRUCache(max_bytes, getsizeof=lambda maps: maps.nbytes)
        self._running: dict[EmbeddingKey, asyncio.Task[UInt16]] = {}

    async def get(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        timings: Timings,
        region: Region | None = None,
    ) -> UInt16:
        """[3, h, h] as `pack_maps` makes them, of a region or the whole image.

        Raises Busy, and what `Embeddings.get_prepared` raises."""
        key = EmbeddingKey(tenant, image_id, model.bundle.digest, region)
        held = self._held.get(key)
        if held is not None:
            self._metrics.whole_images.count_ais_maps("process")
            return held
        task = self._running.get(key)
        if task is None:
            # A task of its own: a client that hangs up does not take the maps away from the others.
            task = self._running[key] = asyncio.create_task(self._make(key, model, timings))
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    def _finished(self, key: EmbeddingKey, task: asyncio.Task[UInt16]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # every waiter may have given up; the error is then nobody's

    async def _make(self, key: EmbeddingKey, model: PromptableModel, timings: Timings) -> UInt16:
        maps = await self._find(key, timings)
        self._metrics.whole_images.count_ais_maps("decoder" if maps is None else "redis")
        if maps is None:
            prepared = await self._embeddings.get_prepared(
                key.tenant, key.image_id, model, timings, region=key.region
            )
            maps = await self._turns.run(decode_maps, model, prepared.embedding, timings)
            with suppress(CacheUnavailable):
                await self._cache.put_maps(key.tenant, key.image_id, key.digest, maps, key.region)
        # Deleted meanwhile? Then neither the caller nor the cache may keep what was made from it.
        try:
            await self._images.get_record(key.tenant, key.image_id)
        except ImageNotFound:
            await self._cache.forget(key.tenant, key.image_id, [key.digest])
            raise
        if maps.nbytes <= self._held.maxsize:
            self._held[key] = maps
        self._report_held()
        return maps

    async def _find(self, key: EmbeddingKey, timings: Timings) -> UInt16 | None:
        with suppress(CacheUnavailable), timings.stage("cache"):
            return await self._cache.get_maps(key.tenant, key.image_id, key.digest, key.region)
        return None

    def forget(self, tenant: str, image_id: str) -> None:
        for key in [k for k in self._held if (k.tenant, k.image_id) == (tenant, image_id)]:
            del self._held[key]
        self._report_held()

    def images(self) -> set[tuple[str, str]]:
        """(tenant, image_id) of everything held."""
        return {(key.tenant, key.image_id) for key in self._held}

    def _report_held(self) -> None:
        self._metrics.caches.set_size("maps", len(self._held), int(self._held.currsize))


def decode_maps(model: PromptableModel, embedding: Embedding, timings: Timings) -> UInt16:
    with timings.stage("maps"):
        return pack_maps(model.predict_ais_maps(embedding))
