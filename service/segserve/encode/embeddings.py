"""From an image id to a prepared embedding, by the shortest way.

    held in this process -> in Redis -> encoded from the stored image

The same image requested twice at the same time, here or on other replicas, is encoded once. An embedding that was
evicted or lost is never an error: it is encoded again.
"""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

import imagecodecs
from cachetools import LRUCache

from segserve.current_client import current_client
from segserve.encode.encode_request import Encoder, EncodeRequest, ImageBytes
from segserve.encode.encoder import MIN_READ_SCALE
from segserve.encode.prepared_cache import EmbeddingKey, PreparedCache, PreparedImage
from segserve.encode.single_flight import SingleFlight
from segserve.errors import EncodeTimeout, ImageNotFound
from segserve.identity.identity import current_identity
from segserve.images.region_reader import RegionReader
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.store import redis_keys
from segserve.store.image_store import ImageStore
from segserve.store.redis_cache import RedisCache, unpack_embedding
from segserve.timing import Timings
from segserve.types import AccessRole, Embedding, Priority, ReadOptions, Region, Size

# Large images whose size is held, so that a click on one needs no look-up in the object store.
MAX_LARGE_SIZES = 1024


@dataclass(frozen=True)
class ImageExtent:
    """The size of a stored image. tiled: it is large, kept in tiles, and encoded in regions."""

    size: Size
    tiled: bool


class Embeddings:
    """`Embeddings` finds the prepared embedding of a stored image, or has it encoded.

    pool: threads for short work.
    timeout_s: how long a request waits before it gets EncodeTimeout, while the encode continues; None is forever.
    send_images: send the pixels with each request, since the encoder cannot reach the object store.
    priority: of requests that give none. Those of the role `batch` are behind all others.
    """

    def __init__(
        self,
        images: ImageStore,
        region_reader: RegionReader,
        cache: RedisCache,
        prepared: PreparedCache,
        encoder: Encoder,
        single_flight: SingleFlight,
        pool: Executor,
        metrics: Metrics,
        *,
        timeout_s: float | None,
        send_images: bool,
        priority: Priority = Priority.INTERACTIVE,
    ) -> None:
        self._images, self._region_reader, self._cache, self._prepared = (
            images,
            region_reader,
            cache,
            prepared,
        )
        self._encoder, self._single_flight = encoder, single_flight
        self._pool, self._metrics = pool, metrics
        self._timeout_s, self._send_images, self._priority = timeout_s, send_images, priority
        self._running: dict[EmbeddingKey, asyncio.Task[PreparedImage]] = {}
        self._large_sizes: LRUCache[tuple[str, str], Size] = LRUCache(MAX_LARGE_SIZES)

    async def get_prepared(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        timings: Timings,
        priority: Priority | None = None,
        region: Region | None = None,
    ) -> PreparedImage:
        """Return the prepared embedding of an image.

        region: the part of the image to encode, as if it were an image; None is all of it.

        Raises ImageNotFound, CacheUnavailable, EncodeTimeout, Busy; BadInput for a region that is not on the image.
        """
        key = EmbeddingKey(tenant, image_id, model.embedding_digest, region)
        held = self._prepared.get(key)
        self._metrics.caches.count_lookup("process", hit=held is not None)
        if held is not None:
            return held
        task = self._running.get(key)
        if task is None:
            # Not awaited directly: a client that disconnects must not cancel the encode for the others.
            task = self._running[key] = asyncio.create_task(
                self._load(key, model, timings, priority or self._default_priority())
            )
            task.add_done_callback(lambda done: self._remove_task(key, done))
            return await self._wait(task)
        with timings.stage("wait"):
            return await self._wait(task)

    async def get_size(self, tenant: str, image_id: str, model: PromptableModel) -> Size:
        """Return the image's size, without encoding it. Raises ImageNotFound."""
        return (await self.get_extent(tenant, image_id, model)).size

    async def get_extent(self, tenant: str, image_id: str, model: PromptableModel) -> ImageExtent:
        """Return the image's size and whether it is encoded in regions, without encoding it. Raises ImageNotFound."""
        if (large_size := self._large_sizes.get((tenant, image_id))) is not None:
            return ImageExtent(large_size, tiled=True)
        held = self._prepared.get(EmbeddingKey(tenant, image_id, model.embedding_digest))
        if held is not None:
            return ImageExtent(held.size, tiled=False)
        record = await self._images.get_record(tenant, image_id)
        if record.tiles is not None:
            self._large_sizes[tenant, image_id] = record.size
        return ImageExtent(record.size, tiled=record.tiles is not None)

    async def ensure_encoded(
        self, tenant: str, image_id: str, model: PromptableModel, timings: Timings
    ) -> None:
        """Encode the image unless its embedding is in Redis; a large one is encoded as a whole.

        Nothing is held in this process. Raises what `get_prepared` raises, but waits as long as it takes.
        """
        key = EmbeddingKey(
            tenant, image_id, model.embedding_digest, await self._whole(tenant, image_id, model)
        )
        await self._find_or_encode(key, model, timings, self._default_priority())
        await self._check_not_deleted(key)

    async def get_embedding(
        self, tenant: str, image_id: str, model: PromptableModel, timings: Timings
    ) -> Embedding:
        """Return the embedding of the whole image, fp16. Raises what `get_prepared` raises."""
        region = await self._whole(tenant, image_id, model)
        return (await self.get_prepared(tenant, image_id, model, timings, region=region)).embedding

    async def _whole(self, tenant: str, image_id: str, model: PromptableModel) -> Region | None:
        """Return the region for all of the image. None says the same for an image that is not tiled."""
        extent = await self.get_extent(tenant, image_id, model)
        return Region(0, 0, extent.size.width, extent.size.height) if extent.tiled else None

    def _default_priority(self) -> Priority:
        return Priority.BATCH if current_identity.get().role is AccessRole.BATCH else self._priority

    def _remove_task(self, key: EmbeddingKey, task: asyncio.Task[PreparedImage]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # all callers may have gone; asyncio would log an error that nobody retrieved

    async def _wait(self, task: asyncio.Task[PreparedImage]) -> PreparedImage:
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._timeout_s)
        except TimeoutError:
            raise EncodeTimeout(
                f"The image was not encoded within {self._timeout_s:g} s.",
                remedy="Ask again: it may be encoded by then. If that goes on, ask the operator whether encoders run.",
                retry_after_s=5,
            ) from None

    async def _load(
        self, key: EmbeddingKey, model: PromptableModel, timings: Timings, priority: Priority
    ) -> PreparedImage:
        """Find or encode the embedding, prepare it, and hold it in this process."""
        record = await self._images.get_record(key.tenant, key.image_id)
        embedding = await self._find_or_encode(key, model, timings, priority)
        with timings.stage("prepare"):
            loop = asyncio.get_running_loop()
            prepared = await loop.run_in_executor(self._pool, model.prepare, embedding, None)
        size = record.size if key.region is None else key.region.size
        image = PreparedImage(size, embedding, prepared)
        await self._check_not_deleted(key)
        evicted_before = self._prepared.evicted
        self._prepared.put(key, image)
        self._metrics.caches.count_evictions("process", self._prepared.evicted - evicted_before)
        self._report_size()
        return image

    async def _check_not_deleted(self, key: EmbeddingKey) -> None:
        """Check that the image was not deleted while it was encoded.

        If it was, neither the caller nor the cache may keep what was made from it. Raises ImageNotFound.
        """
        try:
            await self._images.get_record(key.tenant, key.image_id)
        except ImageNotFound:
            await self._cache.forget(key.tenant, key.image_id, [key.digest])
            raise

    async def _find_or_encode(
        self, key: EmbeddingKey, model: PromptableModel, timings: Timings, priority: Priority
    ) -> Embedding:
        async def find() -> Embedding | None:
            with timings.stage("cache"):
                return await self._cache.get_embedding(key.tenant, key.image_id, key.digest, key.region)

        async def encode() -> Embedding:
            image, shown = await self._read_image_bytes(key, model) if self._send_images else (None, None)
            request = EncodeRequest(
                key.tenant,
                key.image_id,
                model.name,
                key.digest,
                priority,
                image=image,
                region=key.region,
                source=current_client.get().source,
                shown=shown,
            )
            return unpack_embedding(await self._encoder.encode(request, timings))

        embedding = await find()
        self._metrics.caches.count_lookup("redis", hit=embedding is not None)
        if embedding is not None:
            return embedding
        redis_key = redis_keys.embedding(key.tenant, key.image_id, key.digest, key.region)
        return await self._single_flight.run_once(redis_key, find, encode, timings)

    async def _read_image_bytes(
        self, key: EmbeddingKey, model: PromptableModel
    ) -> tuple[ImageBytes, Size | None]:
        """Return the file as it was uploaded, or the pixels of a region as PNG, and which part of it they show."""
        record = await self._images.get_record(key.tenant, key.image_id)
        if key.region is None and record.tiles is None:
            return ImageBytes(await self._images.read(key.tenant, key.image_id), record.options), None
        min_side = MIN_READ_SCALE * model.preprocess.input_size
        visible = None if key.region is None else key.region.clip(record.size)
        pixels = await self._region_reader.read(key.tenant, record, visible, min_side)
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(self._pool, lambda: bytes(imagecodecs.png_encode(pixels, level=1)))
        return ImageBytes(data, ReadOptions()), None if visible is None else visible.size

    def held_images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of every image of which something is held in this process."""
        return self._prepared.held_images() | set(self._large_sizes)

    def forget(self, tenant: str, image_id: str) -> None:
        """Drop what this process holds of an image."""
        self._large_sizes.pop((tenant, image_id), None)
        self._prepared.forget(tenant, image_id)
        self._report_size()

    def _report_size(self) -> None:
        self._metrics.caches.set_size("process", len(self._prepared), self._prepared.nbytes)
