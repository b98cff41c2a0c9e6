"""Images in, embeddings in the cache: the queue, the batches and the device of one process.

    waiting (interactive, batch) -> being read and preprocessed -> ready -> on the device -> stored

An image runs at once when the device is idle; only while it is busy are others gathered, up to `max_batch`
of one model. Interactive images go before batch ones at every step, and batch ones never fill the queue.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import structlog

from segserve.encode.prepared_cache import EmbeddingKey
from segserve.encode.preprocess import preprocess_image
from segserve.errors import BrokenModel, Busy, CacheUnavailable, OutOfMemory
from segserve.images.read_image import read_image
from segserve.images.region_reader import RegionReader
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.store.image_store import ImageStore
from segserve.store.redis_cache import RedisCache, pack_embedding
from segserve.timing import Timings
from segserve.types import Embedding, Float32, Priority, ReadOptions, Region, Size, UInt8

ENOUGH_INPUT_SIZES = 2  # times a model's input size: what a large part of a large image is read at

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ImageBytes:
    """What is to be encoded: of a region, its pixels alone."""

    data: bytes
    options: ReadOptions


@dataclass(frozen=True)
class EncodeRequest:
    """An embedding that is wanted: of which stored image, by which model. digest: of the model's bundle, so
    that a worker with another version of the model refuses instead of answering wrongly. image: for a worker
    that does not see the object store. region: of the image, encoded as if it were one; None is all of it."""

    tenant: str
    image_id: str
    model: str
    digest: str
    priority: Priority = Priority.INTERACTIVE
    image: ImageBytes | None = None
    region: Region | None = None

    @property
    def key(self) -> EmbeddingKey:
        return EmbeddingKey(self.tenant, self.image_id, self.digest, self.region)


class Encoder(Protocol):
    """Here (`LocalEncoder`) or on workers elsewhere."""

    async def encode(self, wanted: EncodeRequest, timings: Timings) -> bytes:
        """The packed embedding, which is then in the cache too. Raises ImageNotFound, Busy, OutOfMemory,
        Unavailable."""
        ...

    async def close(self) -> None:
        """Finish what was taken on, take nothing more."""
        ...


@dataclass(eq=False)
class QueuedImage:
    wanted: EncodeRequest
    timings: Timings
    done: "asyncio.Future[bytes]"
    priority: Priority
    since: float = field(default_factory=time.perf_counter)  # when it began to wait for what comes next
    model: PromptableModel | None = None
    pixels: Float32 | None = None  # [1, 3, S, S], once read


class LocalEncoder:
    """readers: threads that read and preprocess. max_waiting: images in the queue, beyond it Busy; batch ones
    get half of it. at_once: batches encoded at the same time; on a CPU several of one thread each get more done than
    one of several, and each image waits longer."""

    def __init__(
        self,
        images: ImageStore,
        stored: RegionReader,
        cache: RedisCache,
        registry: ModelRegistry,
        readers: Executor,
        metrics: Metrics,
        *,
        max_batch: int,
        max_waiting: int,
        max_pixels: int,
        concurrent_batches: int = 1,
    ) -> None:
        self._images, self._stored, self._cache, self._registry = images, stored, cache, registry
        self._readers, self._metrics = readers, metrics
        self._max_batch, self._max_waiting, self._max_pixels = max_batch, max_waiting, max_pixels
        self._concurrent_batches = concurrent_batches
        self._ahead_of_device = 2 * max(max_batch, concurrent_batches)
        self._device = ThreadPoolExecutor(concurrent_batches, "encode")
        self._waiting: dict[Priority, deque[QueuedImage]] = {priority: deque() for priority in Priority}
        self._reading: set[QueuedImage] = set()
        self._ready: list[QueuedImage] = []
        self._running = 0
        self._items: dict[EmbeddingKey, QueuedImage] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    async def encode(self, wanted: EncodeRequest, timings: Timings) -> bytes:
        item = self._items.get(wanted.key)
        if item is None:
            item = self._enqueue(wanted, timings)
        elif wanted.priority is Priority.INTERACTIVE:
            self._promote(item)
        return await asyncio.shield(item.done)

    def _enqueue(self, wanted: EncodeRequest, timings: Timings) -> QueuedImage:
        waiting = sum(len(queue) for queue in self._waiting.values())
        room = self._max_waiting if wanted.priority is Priority.INTERACTIVE else self._max_waiting // 2
        if self._closing or waiting >= room:
            self._metrics.requests.count_rejection("encode_queue")
            raise Busy("Too many images wait to be encoded.", remedy="Try again soon.", retry_after_s=2)
        item = QueuedImage(wanted, timings, asyncio.get_running_loop().create_future(), wanted.priority)
        item.done.add_done_callback(lambda done: self._forget(wanted.key, done))
        self._items[wanted.key] = item
        self._waiting[wanted.priority].append(item)
        self._advance()
        return item

    def _promote(self, item: QueuedImage) -> None:
        """Somebody clicks on an image that a batch brought."""
        if item in self._waiting[Priority.BATCH]:
            self._waiting[Priority.BATCH].remove(item)
            self._waiting[Priority.INTERACTIVE].append(item)
        item.priority = Priority.INTERACTIVE
        self._advance()

    def _forget(self, key: EmbeddingKey, done: "asyncio.Future[bytes]") -> None:
        self._items.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited may have gone; the error is then nobody's

    def _advance(self) -> None:
        """Start whatever can start. Called after everything that may have made room."""
        for priority in Priority:  # in their order
            while self._waiting[priority] and self._ahead(priority) < self._ahead_of_device:
                item = self._waiting[priority].popleft()
                self._reading.add(item)
                self._start(self._read(item))
        while self._ready and self._running < self._concurrent_batches:
            self._running += 1
            self._start(self._run(self._take_batch()))
        for priority, queue in self._waiting.items():
            self._metrics.encoding.set_queue(priority, len(queue))

    def _ahead(self, priority: Priority) -> int:
        """Images read ahead of the device, as far as this priority minds them: pixels take memory, but an
        interactive image does not wait for a place that batch ones hold."""
        ahead = [*self._reading, *self._ready]
        if priority is Priority.BATCH:
            return len(ahead)
        return sum(item.priority is Priority.INTERACTIVE for item in ahead)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    def _take_batch(self) -> list[QueuedImage]:
        self._ready.sort(
            key=lambda item: list(Priority).index(item.priority)
        )  # stable: first come, first served
        first = self._ready[0]
        batch = [item for item in self._ready if item.model is first.model][: self._max_batch]
        self._ready = [item for item in self._ready if item not in batch]
        return batch

    async def _read(self, item: QueuedImage) -> None:
        wanted, loop = item.wanted, asyncio.get_running_loop()
        item.timings.add("wait", time.perf_counter() - item.since)
        try:
            item.model = await self._model(wanted)
            with item.timings.stage("read"):
                pixels, shows = await self._look(wanted, item.model)
            with item.timings.stage("preprocess"):
                item.pixels = await loop.run_in_executor(
                    self._readers, preprocess_image, pixels, item.model.preprocess, shows
                )
            item.since = time.perf_counter()
            self._ready.append(item)
        except Exception as error:  # whatever it is, it is for those who wait
            fail(item, error)
        finally:
            self._reading.discard(item)
            self._advance()

    async def _model(self, wanted: EncodeRequest) -> PromptableModel:
        model = await self._registry.get(wanted.model, PromptableModel)
        if model.bundle.digest != wanted.digest:
            raise BrokenModel(
                f"Model {wanted.model!r} is another one here than where the request came from.",
                remedy="Give all replicas and workers the same models.",
                field="model",
            )
        return model

    async def _look(self, wanted: EncodeRequest, model: PromptableModel) -> tuple[UInt8, Size]:
        """What is to be encoded, [h, w, 3], and the size of what it shows."""
        if (sent := wanted.image) is not None:
            loop = asyncio.get_running_loop()
            pixels = await loop.run_in_executor(
                self._readers, read_image, sent.data, sent.options, self._max_pixels
            )
            return pixels, wanted.region.size if wanted.region else Size(*pixels.shape[:2])
        record = await self._images.get_record(wanted.tenant, wanted.image_id)
        enough = ENOUGH_INPUT_SIZES * model.preprocess.input_size
        pixels = await self._stored.read(wanted.tenant, record, wanted.region, enough)
        return pixels, wanted.region.size if wanted.region else record.size

    async def _run(self, batch: list[QueuedImage]) -> None:
        loop, start = asyncio.get_running_loop(), time.perf_counter()
        for item in batch:
            item.timings.add("wait", start - item.since)
        try:
            packed = await loop.run_in_executor(self._device, encode_batch, batch)
        except Exception as error:  # as above
            for item in batch:
                fail(item, error)
            return
        finally:
            self._running -= 1
            self._advance()
        assert batch[0].model is not None
        self._metrics.encoding.record_batch(batch[0].model.name, len(batch))
        for item, data in zip(batch, packed, strict=True):
            item.timings.add("encode", time.perf_counter() - start)
            self._start(self._store(item, data))

    async def _store(self, item: QueuedImage, packed: bytes) -> None:
        wanted = item.wanted
        with item.timings.stage("store"):
            try:
                await self._cache.put_embedding(
                    wanted.tenant, wanted.image_id, wanted.digest, packed, wanted.region
                )
            except CacheUnavailable:  # it can still be clicked where it was asked for
                log.warning("embedding not cached", image_id=wanted.image_id)
        if not item.done.done():
            item.done.set_result(packed)

    async def close(self) -> None:
        self._closing = True
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self._device.shutdown(cancel_futures=True)


def fail(item: QueuedImage, error: Exception) -> None:
    if not item.done.done():
        item.done.set_exception(error)


def encode_batch(batch: list[QueuedImage]) -> list[bytes]:
    """The packed embeddings of images of one model. A batch that does not fit on the device is halved; raises
    OutOfMemory where a single image does not."""
    model = batch[0].model
    assert model is not None
    try:
        found: list[Embedding] = model.encode_batch(np.concatenate([pixels(item) for item in batch]))
    except OutOfMemory:
        if len(batch) == 1:
            raise
        half = len(batch) // 2
        return encode_batch(batch[:half]) + encode_batch(batch[half:])
    return [pack_embedding(embedding) for embedding in found]


def pixels(item: QueuedImage) -> Float32:
    assert item.pixels is not None
    return item.pixels
