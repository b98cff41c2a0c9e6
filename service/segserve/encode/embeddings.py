"""From an image id to a prepared embedding, by the shortest way.

    held in this process -> in Redis -> encoded from the stored image

The same image wanted twice at once is encoded once. An embedding that was evicted or lost is never an
error: it is encoded again.
"""

import asyncio
import io
from concurrent.futures import Executor

import structlog

from segserve.encode.prepared import Key, PreparedCache, PreparedImage
from segserve.encode.preprocess import apply
from segserve.errors import CacheUnavailable, EncodeTimeout, ImageNotFound
from segserve.images.read import read_image
from segserve.metrics import Metrics
from segserve.models.model import Model
from segserve.store.cache import Cache, pack, unpack
from segserve.store.images import ImageStore
from segserve.timing import Timings
from segserve.types import Embedding, ImageRecord, Size

log = structlog.get_logger(__name__)


class Embeddings:
    """encoder: runs encodes, one thread so that they queue. workers: runs short work.

    timeout_s: how long a request waits for its embedding before it gets EncodeTimeout; the encode goes on.
    """

    def __init__(
        self,
        images: ImageStore,
        cache: Cache,
        prepared: PreparedCache,
        encoder: Executor,
        workers: Executor,
        metrics: Metrics,
        *,
        timeout_s: float,
        max_pixels: int,
    ) -> None:
        self._images, self._cache, self._prepared = images, cache, prepared
        self._encoder, self._workers, self._metrics = encoder, workers, metrics
        self._timeout_s, self._max_pixels = timeout_s, max_pixels
        self._running: dict[Key, asyncio.Task[PreparedImage]] = {}

    async def prepared(self, tenant: str, image_id: str, model: Model, timings: Timings) -> PreparedImage:
        """Raises ImageNotFound, CacheUnavailable, EncodeTimeout."""
        key = Key(tenant, image_id, model.bundle.digest)
        if (held := self._prepared.get(key)) is not None:
            self._metrics.cache("process", hit=True)
            return held
        self._metrics.cache("process", hit=False)
        task = self._running.get(key)
        if task is None:
            # A task of its own: a client that hangs up does not take the encode away from the others.
            task = self._running[key] = asyncio.create_task(self._make(key, model, timings))
            task.add_done_callback(lambda done: self._finished(key, done))
            return await self._wait(task)
        with timings.stage("wait"):
            return await self._wait(task)

    async def size(self, tenant: str, image_id: str, model: Model) -> Size:
        """The image's size, without encoding it. Raises ImageNotFound."""
        held = self._prepared.get(Key(tenant, image_id, model.bundle.digest))
        return held.size if held is not None else (await self._images.record(tenant, image_id)).size

    def _finished(self, key: Key, task: asyncio.Task[PreparedImage]) -> None:
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

    async def _make(self, key: Key, model: Model, timings: Timings) -> PreparedImage:
        record = await self._images.record(key.tenant, key.image_id)
        embedding = await self._find(key, record, model, timings)
        with timings.stage("prepare"):
            loop = asyncio.get_running_loop()
            prepared = await loop.run_in_executor(self._workers, model.prepare, embedding, None)
        image = PreparedImage(record.size, embedding, prepared)
        # Deleted meanwhile? Then neither the caller nor the cache may keep what was made from it.
        try:
            await self._images.record(key.tenant, key.image_id)
        except ImageNotFound:
            await self._cache.forget(key.tenant, key.image_id, [key.digest])
            raise
        self._prepared.put(key, image)
        self._metrics.held(len(self._prepared), self._prepared.nbytes)
        return image

    async def embedding(self, tenant: str, image_id: str, model: Model, timings: Timings) -> Embedding:
        """The embedding itself, fp16. Raises as `prepared` does."""
        return (await self.prepared(tenant, image_id, model, timings)).embedding

    async def _find(self, key: Key, record: ImageRecord, model: Model, timings: Timings) -> Embedding:
        with timings.stage("cache"):
            cached = await self._cache.get_embedding(key.tenant, key.image_id, key.digest)
        self._metrics.cache("redis", hit=cached is not None)
        if cached is not None:
            return cached
        with timings.stage("fetch"):
            data = await self._images.read(key.tenant, key.image_id)
        loop = asyncio.get_running_loop()
        packed = await loop.run_in_executor(self._encoder, self._encode, data, record, model, timings)
        with timings.stage("store"):
            try:
                await self._cache.put_embedding(key.tenant, key.image_id, key.digest, packed)
            except CacheUnavailable:  # it can still be clicked here; another replica encodes it again
                log.warning("embedding not cached", image_id=key.image_id)
        return unpack(packed)

    def _encode(self, data: bytes, record: ImageRecord, model: Model, timings: Timings) -> bytes:
        """Read, preprocess and encode; what comes back has passed through fp16, cached or not."""
        with timings.stage("read"):
            pixels = read_image(io.BytesIO(data), record.options, self._max_pixels)
        with timings.stage("preprocess"):
            image = apply(pixels, model.preprocess)
        with timings.stage("encode"):
            return pack(model.encode(image))

    def forget(self, tenant: str, image_id: str) -> None:
        self._prepared.forget(tenant, image_id)
        self._metrics.held(len(self._prepared), self._prepared.nbytes)
