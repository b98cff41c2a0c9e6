"""The encoder of one process: a priority queue, micro-batching, and the device.

    waiting (interactive, batch) -> reading and preprocessing -> ready -> on the device -> stored in the cache

An image runs at once if the device is idle. Only while it is busy do others gather, up to `max_batch` of one model.
Interactive images go before batch ones at every step, and batch ones never fill the queue. Among those of one priority
tenants take turns, and clients of one tenant do; none of them fills the queue.
"""

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from math import ceil
from typing import Any

import numpy as np
import structlog

from segserve.concurrency_limit import fits_tenant_share
from segserve.current_client import Client, current_client
from segserve.encode.encode_request import EncodeRequest
from segserve.encode.prepared_cache import EmbeddingKey
from segserve.encode.preprocess import preprocess_image
from segserve.errors import BrokenModel, Busy, CacheUnavailable, OutOfMemory
from segserve.fair_queue import FairQueue
from segserve.images.region_reader import RegionReader
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.store.image_store import ImageStore
from segserve.store.redis_cache import RedisCache, pack_embedding
from segserve.timing import Timings
from segserve.types import Embedding, Float32, Priority, Size, UInt8

# A large region is read at no less than this many times the model's input size. Finer pixels cost time, and change the
# resized input very little.
MIN_READ_SCALE = 2

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class QueuedImage:
    """One image on its way through the encoder.

    done: becomes the packed embedding, or the error.
    client, priority: of the request, or of a later one for the same image that is more urgent.
    since: when the image began to wait for its next step, as `time.perf_counter()`.
    pixels: [1, 3, S, S], once read and preprocessed.
    """

    request: EncodeRequest
    timings: Timings
    done: "asyncio.Future[bytes]"
    client: Client
    priority: Priority
    since: float = field(default_factory=time.perf_counter)
    model: PromptableModel | None = None
    pixels: Float32 | None = None


class LocalEncoder:
    """`LocalEncoder` encodes images in this process and puts the embeddings into the cache.

    read_pool: threads that read and preprocess.
    max_batch: images of one model that are encoded together.
    max_waiting: images in the queue, more get Busy; batch images may fill half of it, one client seven eighths
    of what images of its priority may fill. One of several tenants leaves room to others: `fits_tenant_share`.
    concurrent_batches: batches encoded at the same time. On a CPU, several of one thread each encode more images a
    second than one batch of several threads, but each image takes longer.
    """

    def __init__(
        self,
        images: ImageStore,
        region_reader: RegionReader,
        cache: RedisCache,
        registry: ModelRegistry,
        read_pool: Executor,
        metrics: Metrics,
        *,
        max_batch: int,
        max_waiting: int,
        concurrent_batches: int = 1,
    ) -> None:
        self._images, self._region_reader, self._cache, self._registry = (
            images,
            region_reader,
            cache,
            registry,
        )
        self._read_pool, self._metrics = read_pool, metrics
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._concurrent_batches = concurrent_batches
        # Enough that the device never waits for pixels; no more, since pixels take memory.
        self._max_read_ahead = 2 * max(max_batch, concurrent_batches)
        self._device = ThreadPoolExecutor(concurrent_batches, "encode")
        self._waiting: dict[Priority, FairQueue[QueuedImage]] = {p: FairQueue() for p in Priority}
        self._reading: set[QueuedImage] = set()
        self._ready: dict[Priority, FairQueue[QueuedImage]] = {p: FairQueue() for p in Priority}
        self._tenants: set[str] = set()  # that were seen
        self._running_batches = 0
        self._queued: dict[EmbeddingKey, QueuedImage] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False

    async def encode(self, request: EncodeRequest, timings: Timings) -> bytes:
        """Return the packed embedding. The same image requested twice is encoded once."""
        queued = self._queued.get(request.key)
        if queued is None:
            queued = self._enqueue(request, timings)
        elif request.priority is Priority.INTERACTIVE:
            self._make_interactive(queued, request.client)
        return await asyncio.shield(queued.done)

    def _enqueue(self, request: EncodeRequest, timings: Timings) -> QueuedImage:
        waiting = sum(len(queue) for queue in self._waiting.values())
        is_interactive = request.priority is Priority.INTERACTIVE
        max_waiting = self._max_waiting if is_interactive else self._max_waiting // 2
        if self._is_closing or waiting >= max_waiting:
            self._metrics.requests.count_rejection("encode_queue")
            raise Busy("Too many images wait to be encoded.", remedy="Try again soon.", retry_after_s=2)
        self._check_shares(request, max_waiting, max_waiting - waiting)
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        queued = QueuedImage(request, timings, done, request.client, request.priority)
        queued.done.add_done_callback(lambda done: self._remove(request.key, done))
        self._queued[request.key] = queued
        self._waiting[request.priority].put(request.client, queued)
        self._advance()
        return queued

    def _check_shares(self, request: EncodeRequest, max_waiting: int, free: int) -> None:
        """Raise Busy where the client, or its tenant, has all of its share of the queue."""
        queue, client = self._waiting[request.priority], request.client
        mine = queue.count(client)
        if client.source is not None and mine and mine >= max_waiting - ceil(max_waiting / 8):
            whose = "from one address"
        else:
            self._tenants.add(client.tenant)
            if len(self._tenants) == 1 or fits_tenant_share(queue.count_tenant(client.tenant), 1, free):
                return
            whose = "of one tenant"
        self._metrics.requests.count_rejection("client_encode_queue")
        raise Busy(
            f"Too many images {whose} wait to be encoded.",
            remedy="Wait for earlier answers.",
            retry_after_s=2,
        )

    def _make_interactive(self, queued: QueuedImage, client: Client) -> None:
        """Raise the priority of an image: a client clicks on an image that a batch requested."""
        for queues in (self._waiting, self._ready):
            if queued in queues[Priority.BATCH]:
                queues[Priority.BATCH].remove(queued.client, queued)
                queues[Priority.INTERACTIVE].put(client, queued)
                queued.client = client
        queued.priority = Priority.INTERACTIVE
        self._advance()

    def _remove(self, key: EmbeddingKey, done: "asyncio.Future[bytes]") -> None:
        self._queued.pop(key, None)
        if not done.cancelled():
            done.exception()  # all callers may have gone; asyncio would log an error that nobody retrieved

    def _advance(self) -> None:
        """Start whatever can start. Called after everything that may have made room."""
        for priority in Priority:  # interactive first
            while self._waiting[priority] and self._may_read(priority):
                queued = self._waiting[priority].pop()
                self._reading.add(queued)
                self._run_task(self._read(queued))
        while any(self._ready.values()) and self._running_batches < self._concurrent_batches:
            self._running_batches += 1
            self._run_task(self._encode(self._take_batch()))
        for priority, queue in self._waiting.items():
            self._metrics.encoding.set_queue(priority, len(queue))

    def _may_read(self, priority: Priority) -> bool:
        """Return whether the next image of this priority may be read ahead of the device.

        Batch images count all that are read ahead. Interactive ones count only their own, so that they never wait for
        room that batch images take; and one image of a tenant never waits for room that other tenants take.
        """
        read_ahead = [*self._reading, *(queued for queue in self._ready.values() for queued in queue)]
        if priority is Priority.INTERACTIVE:
            read_ahead = [queued for queued in read_ahead if queued.priority is Priority.INTERACTIVE]
            tenant = self._waiting[priority].peek()[0].tenant
            if all(queued.client.tenant != tenant for queued in read_ahead):
                return True
        return len(read_ahead) < self._max_read_ahead

    def _run_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop holds tasks only weakly
        task.add_done_callback(self._tasks.discard)

    def _take_batch(self) -> list[QueuedImage]:
        """Remove and return the next batch: images of one model, by priority, then by turn."""
        batch: list[QueuedImage] = []
        for queue in self._ready.values():  # interactive first
            while len(batch) < self._max_batch:
                queued = queue.pop_where(lambda queued: not batch or queued.model is batch[0].model)
                if queued is None:
                    break
                batch.append(queued)
        return batch

    async def _read(self, queued: QueuedImage) -> None:
        request, loop = queued.request, asyncio.get_running_loop()
        current_client.set(request.client)  # of this task: it may have been started by another client's
        queued.timings.add("wait", time.perf_counter() - queued.since)
        try:
            queued.model = await self._get_model(request)
            with queued.timings.stage("read"):
                pixels, original_size, shown = await self._read_pixels(request, queued.model)
            with queued.timings.stage("preprocess"):
                queued.pixels = await loop.run_in_executor(
                    self._read_pool, preprocess_image, pixels, queued.model.preprocess, original_size, shown
                )
            queued.since = time.perf_counter()
            self._ready[queued.priority].put(queued.client, queued)
        except Exception as error:  # any error belongs to the callers, who await `done`
            set_error(queued, error)
        finally:
            self._reading.discard(queued)
            self._advance()

    async def _get_model(self, request: EncodeRequest) -> PromptableModel:
        model = await self._registry.get(request.model, PromptableModel)
        if model.embedding_digest != request.digest and request.digest.startswith(model.bundle.digest):
            raise BrokenModel(
                f"Model {request.model!r} is encoded in {model.embedding_precision} here, and in another precision"
                " where the request came from.",
                remedy="Set SEGSERVE_PRECISION alike for services, workers and encoder workers.",
            )
        if model.embedding_digest != request.digest:
            raise BrokenModel(
                f"Model {request.model!r} is another one here than where the request came from.",
                remedy="Give all replicas and workers the same models.",
                field="model",
            )
        return model

    async def _read_pixels(
        self, request: EncodeRequest, model: PromptableModel
    ) -> tuple[UInt8, Size, Size | None]:
        """Return the pixels to encode [h, w, 3], perhaps reduced, and the sizes that `preprocess_image` takes."""
        region = request.region
        if request.image is not None:
            pixels = await self._region_reader.decode(BytesIO(request.image.data), request.image.options)
            return pixels, region.size if region else Size(*pixels.shape[:2]), request.shown
        record = await self._images.get_record(request.tenant, request.image_id)
        min_side = MIN_READ_SCALE * model.preprocess.input_size
        if region is None:
            return await self._region_reader.read(request.tenant, record, None, min_side), record.size, None
        visible = region.clip(record.size)
        pixels = await self._region_reader.read(request.tenant, record, visible, min_side)
        return pixels, region.size, visible.size

    async def _encode(self, batch: list[QueuedImage]) -> None:
        loop, start = asyncio.get_running_loop(), time.perf_counter()
        for queued in batch:
            queued.timings.add("wait", start - queued.since)
        try:
            packed = await loop.run_in_executor(self._device, encode_batch, batch)
        except Exception as error:  # any error belongs to the callers, who await `done`
            for queued in batch:
                set_error(queued, error)
            return
        finally:
            self._running_batches -= 1
            self._advance()
        assert batch[0].model is not None
        self._metrics.encoding.record_batch(batch[0].model.name, len(batch))
        seconds = time.perf_counter() - start
        for queued, data in zip(batch, packed, strict=True):
            queued.timings.add("encode", seconds)
            queued.timings.encoder_s += seconds / len(batch)
            self._run_task(self._store(queued, data))

    async def _store(self, queued: QueuedImage, packed: bytes) -> None:
        request = queued.request
        with queued.timings.stage("store"):
            try:
                await self._cache.put_embedding(
                    request.tenant, request.image_id, request.digest, packed, request.region
                )
            except CacheUnavailable:  # the process that asked for the embedding can still use it
                log.warning("embedding not cached", image_id=request.image_id)
        if not queued.done.done():
            queued.done.set_result(packed)

    def is_reachable(self) -> bool:
        return True

    async def close(self) -> None:
        """Finish the images that were accepted; refuse new ones."""
        self._is_closing = True
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self._device.shutdown(cancel_futures=True)


def set_error(queued: QueuedImage, error: Exception) -> None:
    if not queued.done.done():
        queued.done.set_exception(error)


def encode_batch(batch: list[QueuedImage]) -> list[bytes]:
    """Return the packed embeddings of images of one model, in order.

    A batch that does not fit on the device is halved. Raises OutOfMemory if a single image does not fit.
    """
    model = batch[0].model
    assert model is not None
    try:
        embeddings: list[Embedding] = model.encode_batch(np.concatenate([get_pixels(q) for q in batch]))
    except OutOfMemory:
        if len(batch) == 1:
            raise
        half = len(batch) // 2
        return encode_batch(batch[:half]) + encode_batch(batch[half:])
    return [pack_embedding(embedding) for embedding in embeddings]


def get_pixels(queued: QueuedImage) -> Float32:
    assert queued.pixels is not None
    return queued.pixels
