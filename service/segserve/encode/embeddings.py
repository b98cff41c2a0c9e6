"""From an image id to a prepared embedding, by the shortest way.

    held in this process -> in Redis -> encoded from the stored image

The same image wanted twice at once, here or on other replicas, is encoded once. An embedding that was
evicted or lost is never an error: it is encoded again.
"""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

import imagecodecs
from cachetools import LRUCache

from segserve.encode.encoder import ENOUGH_INPUT_SIZES, Encoder, EncodeRequest, ImageBytes
from segserve.encode.prepared_cache import EmbeddingKey, PreparedCache, PreparedImage
from segserve.encode.single_flight import SingleFlight
from segserve.errors import EncodeTimeout, ImageNotFound
from segserve.images.region_reader import RegionReader
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.store import keys
from segserve.store.image_store import ImageStore
from segserve.store.redis_cache import RedisCache, unpack_embedding
from segserve.timing import Timings
from segserve.types import Embedding, Priority, ReadOptions, Region, Size

LARGE_KNOWN = 1024  # large images of which the size is held


@dataclass(frozen=True)
class ImageExtent:
    """tiled: large, and encoded in regions."""

    size: Size
    tiled: bool


class Embeddings:
    """workers: run short work. timeout_s: how long a request waits for its embedding before it gets EncodeTimeout,
    while the encode goes on; None is for ever. send_images: the encoder does not see the object store. priority: of
    whatever is asked for without one."""

    def __init__(
        self,
        images: ImageStore,
        stored: RegionReader,
        cache: RedisCache,
        prepared: PreparedCache,
        encoder: Encoder,
        flights: SingleFlight,
        workers: Executor,
        metrics: Metrics,
        *,
        timeout_s: float | None,
        send_images: bool,
        priority: Priority = Priority.INTERACTIVE,
    ) -> None:
        self._priority = priority
        self._images, self._stored, self._cache, self._prepared = images, stored, cache, prepared
        self._encoder, self._flights = encoder, flights
        self._workers, self._metrics = workers, metrics
        self._timeout_s, self._send_images = timeout_s, send_images
        self._running: dict[EmbeddingKey, asyncio.Task[PreparedImage]] = {}
        self._large: LRUCache[tuple[str, str], Size] = LRUCache(LARGE_KNOWN)

    async def get_prepared(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        timings: Timings,
        priority: Priority | None = None,
        region: Region | None = None,
    ) -> PreparedImage:
        """region: the part of the image to encode, as if it were an image of its own; None is all of it. Raises
        ImageNotFound, CacheUnavailable, EncodeTimeout, Busy, BadInput for a region that is not on the image."""
        key = EmbeddingKey(tenant, image_id, model.bundle.digest, region)
        held = self._prepared.get(key)
        self._metrics.caches.count_lookup("process", hit=held is not None)
        if held is not None:
            return held
        task = self._running.get(key)
        if task is None:
            # A task of its own: a client that hangs up does not take the encode away from the others.
            task = self._running[key] = asyncio.create_task(
                self._make(key, model, timings, priority or self._priority)
            )
            task.add_done_callback(lambda done: self._finished(key, done))
            return await self._wait(task)
        with timings.stage("wait"):
            return await self._wait(task)

    async def get_size(self, tenant: str, image_id: str, model: PromptableModel) -> Size:
        """The image's size, without encoding it. Raises ImageNotFound."""
        return (await self.get_extent(tenant, image_id, model)).size

    async def get_extent(self, tenant: str, image_id: str, model: PromptableModel) -> ImageExtent:
        """As `get_size`, and whether the image is to be encoded in regions."""
        if (large := self._large.get((tenant, image_id))) is not None:
            return ImageExtent(large, tiled=True)
        held = self._prepared.get(EmbeddingKey(tenant, image_id, model.bundle.digest))
        if held is not None:
            return ImageExtent(held.size, tiled=False)
        record = await self._images.get_record(tenant, image_id)
        if record.tiles is not None:
            self._large[tenant, image_id] = record.size
        return ImageExtent(record.size, tiled=record.tiles is not None)

    def _finished(self, key: EmbeddingKey, task: asyncio.Task[PreparedImage]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # every waiter may have given up; the error is then nobody's

    async def _wait(self, task: asyncio.Task[PreparedImage]) -> PreparedImage:
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._timeout_s)
        except TimeoutError:
            raise EncodeTimeout(
                f"The image was not encoded within {self._timeout_s:g} s.",
                remedy="Ask again: the encode goes on and the answer is then quick.",
                retry_after_s=5,
            ) from None

    async def _make(
        self, key: EmbeddingKey, model: PromptableModel, timings: Timings, priority: Priority
    ) -> PreparedImage:
        record = await self._images.get_record(key.tenant, key.image_id)
        embedding = await self._find(key, model, timings, priority)
        with timings.stage("prepare"):
            loop = asyncio.get_running_loop()
            prepared = await loop.run_in_executor(self._workers, model.prepare, embedding, None)
        size = record.size if key.region is None else key.region.size
        image = PreparedImage(size, embedding, prepared)
        await self._check_kept(key)
        before = self._prepared.evicted
        self._prepared.put(key, image)
        self._metrics.caches.count_evictions("process", self._prepared.evicted - before)
        self._report_held()
        return image

    async def _check_kept(self, key: EmbeddingKey) -> None:
        """Deleted meanwhile? Then neither the caller nor the cache may keep what was made from it. Raises
        ImageNotFound."""
        try:
            await self._images.get_record(key.tenant, key.image_id)
        except ImageNotFound:
            await self._cache.forget(key.tenant, key.image_id, [key.digest])
            raise

    async def ensure_encoded(
        self, tenant: str, image_id: str, model: PromptableModel, timings: Timings
    ) -> None:
        """Encode the image, a large one as a whole, unless its embedding is in Redis. Nothing is held in this process.
        Raises as `get_prepared` does, but waits as long as it takes."""
        extent = await self.get_extent(tenant, image_id, model)
        region = Region(0, 0, extent.size.width, extent.size.height) if extent.tiled else None
        key = EmbeddingKey(tenant, image_id, model.bundle.digest, region)
        await self._find(key, model, timings, self._priority)
        await self._check_kept(key)

    async def get_embedding(
        self, tenant: str, image_id: str, model: PromptableModel, timings: Timings
    ) -> Embedding:
        """The embedding of the whole image itself, fp16. Raises as `get_prepared` does."""
        extent = await self.get_extent(tenant, image_id, model)
        whole = Region(0, 0, extent.size.width, extent.size.height) if extent.tiled else None
        return (await self.get_prepared(tenant, image_id, model, timings, region=whole)).embedding

    async def _find(
        self, key: EmbeddingKey, model: PromptableModel, timings: Timings, priority: Priority
    ) -> Embedding:
        async def look() -> Embedding | None:
            with timings.stage("cache"):
                return await self._cache.get_embedding(key.tenant, key.image_id, key.digest, key.region)

        async def encode() -> Embedding:
            image = await self._bytes(key, model) if self._send_images else None
            wanted = EncodeRequest(
                key.tenant, key.image_id, model.name, key.digest, priority, image=image, region=key.region
            )
            return unpack_embedding(await self._encoder.encode(wanted, timings))

        found = await look()
        self._metrics.caches.count_lookup("redis", hit=found is not None)
        if found is not None:
            return found
        return await self._flights.run_once(
            keys.embedding(key.tenant, key.image_id, key.digest, key.region), look, encode, timings
        )

    async def _bytes(self, key: EmbeddingKey, model: PromptableModel) -> ImageBytes:
        record = await self._images.get_record(key.tenant, key.image_id)
        if key.region is None and record.tiles is None:
            return ImageBytes(await self._images.read(key.tenant, key.image_id), record.options)
        enough = ENOUGH_INPUT_SIZES * model.preprocess.input_size
        pixels = await self._stored.read(key.tenant, record, key.region, enough)
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(
            self._workers, lambda: bytes(imagecodecs.png_encode(pixels, level=1))
        )
        return ImageBytes(data, ReadOptions())

    def held_images(self) -> set[tuple[str, str]]:
        """(tenant, image_id) of everything of which something is held."""
        return self._prepared.held_images() | set(self._large)

    def forget(self, tenant: str, image_id: str) -> None:
        self._large.pop((tenant, image_id), None)
        self._prepared.forget(tenant, image_id)
        self._report_held()

    def _report_held(self) -> None:
        self._metrics.caches.set_size("process", len(self._prepared), self._prepared.nbytes)
