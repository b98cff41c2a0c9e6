"""The one place where everything is wired."""

import asyncio
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from segserve.automatic.ais_map_cache import AisMapCache
from segserve.automatic.amg_candidate_cache import AmgCandidateCache
from segserve.automatic.amg_generator import AmgGenerator
from segserve.automatic.segmenter import AutomaticSegmenter
from segserve.bounded_executor import BoundedExecutor, lower_thread_priority
from segserve.cancellation import cancel_and_wait
from segserve.decode.click_limit import ClickLimit
from segserve.decode.segmenter import MaskCache, PromptSegmenter, decode_prompt
from segserve.device_memory import DeviceMemory, load_nvml
from segserve.encode.embeddings import Embeddings
from segserve.encode.encoder import Encoder, LocalEncoder
from segserve.encode.frame_embeddings import FrameEmbeddings
from segserve.encode.prepared_cache import PreparedCache, PreparedImage
from segserve.encode.single_flight import SingleFlight
from segserve.errors import BadInput, CacheUnavailable, NotAllowed, OutOfMemory, SegserveError
from segserve.files.file_library import FileLibrary
from segserve.images.fetch_url import ImageFetcher
from segserve.images.image_library import ImageLibrary
from segserve.images.region_reader import RegionReader
from segserve.instances.segmenter import InstanceSegmenter
from segserve.jobs.job_services import JobServices, find_jobs_redis
from segserve.jobs.kinds.batch_images import ServerRoots
from segserve.metrics import Metrics
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.promptable_model import FOLD_BELOW_TOKENS, PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.rendering.pool import RenderingPool
from segserve.semantic.segmenter import SemanticSegmenter
from segserve.settings import Settings
from segserve.store.file_store import FileStore
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.store.private_redis import PrivateRedis
from segserve.store.redis_cache import EmbeddingReady, ImageDeleted, RedisCache, pack_embedding
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, Device, Embedding, ImageRecord, Priority, Prompt, Select, Size

LOOK_S = 5.0
LAG_CHECK_S = 0.5
EXPIRY_CHECK_S = 300.0
RENDERING_THREADS = 2
MAX_RENDERED_RESULTS = 16
MB = 1_000_000
NO_KEYS = "none: anyone who can reach this address can use the service"

log = structlog.get_logger(__name__)


class Role(Enum):
    """What a process is for."""

    LOCAL = auto()  # one command's own work, or tests
    API = auto()
    ENCODER = auto()  # encodes for others, and does nothing else
    WORKER = auto()  # runs jobs


class Service:
    """All the parts, built from the settings; `start` opens what needs opening, `stop` closes it again.

    encoder: workers elsewhere; None encodes in this process.
    """

    def __init__(
        self, settings: Settings, encoder: Encoder | None = None, *, role: Role = Role.LOCAL
    ) -> None:
        decodes = role is not Role.ENCODER
        # Jobs have many images and nobody who waits for one of them.
        many = role is Role.WORKER and settings.device is Device.CPU
        self.settings = settings
        self._encodes, self._decodes = encoder is None, decodes
        self.metrics = Metrics()
        make_data_dir(settings.data_dir)
        self._redis: PrivateRedis | None = None
        url = settings.redis_url
        if url is None:
            self._redis = PrivateRedis(settings.data_dir / "redis", settings.cache_mb)
            url = self._redis.url
        self.cache = RedisCache(url, settings.redis_timeout_s, settings.embedding_ttl_s, settings.mask_ttl_s)
        runtime = partial(RuntimeOptions.for_device, settings.device)
        self.registry = ModelRegistry(
            [settings.data_dir / "models", BUILT_IN_MODELS],
            RuntimeOptionsByGraph(
                encoder=None if encoder else runtime(1 if many else settings.encode_threads, fp16=True),
                decoder=runtime(settings.decode_threads) if decodes else None,
                whole_image=runtime(settings.encode_threads) if decodes else None,
            ),
            settings.models_mb * MB,
            self.metrics.process.set_models_loaded,
        )
        self.decode_pool = ThreadPoolExecutor(settings.decode_workers, "decode")
        self._readers = ThreadPoolExecutor(settings.decode_workers, "read")  # no upload stands before a click
        self.whole_image_executor = BoundedExecutor(
            settings.whole_workers, settings.whole_queue, self.metrics
        )
        objects = open_store(settings.object_store, settings.data_dir / "objects")
        store = ImageStore(objects, settings.quota_mb * MB)
        limits = settings.image_limits
        stored = RegionReader(store, self._readers, limits.pixels)
        self.encoder = encoder or LocalEncoder(
            store,
            stored,
            self.cache,
            self.registry,
            self._readers,
            self.metrics,
            max_batch=settings.max_batch,
            max_waiting=settings.encode_queue,
            max_pixels=limits.pixels,
            at_once=settings.encode_threads if many else 1,
        )
        self._flights = SingleFlight(self.cache)
        self._prepared = PreparedCache(settings.prepared_mb * MB)
        self.embeddings = Embeddings(
            store,
            stored,
            self.cache,
            self._prepared,
            self.encoder,
            self._flights,
            self.decode_pool,
            self.metrics,
            timeout_s=None if role is Role.WORKER else settings.encode_timeout_s,
            send_images=settings.send_images,
            priority=Priority.BATCH if role is Role.WORKER else Priority.INTERACTIVE,
        )
        self.frame_embeddings = FrameEmbeddings(self.cache, self._prepared, self.encoder, self.decode_pool)
        self._masks = MaskCache(self.cache, settings.mask_ttl_s, self._readers)
        self.click_limit = ClickLimit(settings.decode_workers, settings.decode_target_ms / 1000, self.metrics)
        self.segmenter = PromptSegmenter(
            self.registry,
            self.embeddings,
            self._masks,
            self.decode_pool,
            self.metrics,
            threads=settings.decode_workers,
            click_limit=self.click_limit,
        )
        self._maps = AisMapCache(
            store, self.cache, self.embeddings, self.whole_image_executor, self.metrics, settings.maps_mb * MB
        )
        self._grid_workers = ThreadPoolExecutor(
            settings.encode_threads, "grid", initializer=lower_thread_priority
        )
        self._grids = AmgCandidateCache(
            store,
            self.embeddings,
            self.whole_image_executor,
            self._grid_workers,
            self.metrics,
            settings.candidates_mb * MB,
        )
        self.automatic = AutomaticSegmenter(
            self.registry,
            self.embeddings,
            self._maps,
            AmgGenerator(self.embeddings, self._grids, self.whole_image_executor),
            self.whole_image_executor,
            self.metrics,
            max_tiles=None if role is Role.WORKER else settings.automatic_tiles,
        )
        self.images = ImageLibrary(
            store,
            stored,
            self.cache,
            self.registry,
            self._readers,
            limits=limits,
            forget=self._forget,
        )
        # Of a large file it takes minutes: no upload of an image stands behind it.
        self._probing = ThreadPoolExecutor(1, "probe")
        self.files = FileLibrary(FileStore(objects, store.quota), self._probing, settings.file_limits)
        self.rendering_pool = RenderingPool(RENDERING_THREADS, MAX_RENDERED_RESULTS)
        self.batch_roots = ServerRoots(settings.batch_roots)
        self.semantic = SemanticSegmenter(self.images, self.registry, self.whole_image_executor, self.metrics)
        self.instances = InstanceSegmenter(self.images, self.registry, self.whole_image_executor)
        self.image_fetcher = ImageFetcher(
            settings.fetch_hosts,
            private=settings.fetch_private,
            timeout_s=settings.fetch_timeout_s,
            max_bytes=settings.max_image_mb * MB,
        )
        self._jobs: JobServices | None = None
        if role in (Role.API, Role.WORKER) and (where := find_jobs_redis(settings)) is not None:
            self._jobs = JobServices(*where, settings, objects, self.metrics, runs_jobs=role is Role.WORKER)
        self.device_memory = DeviceMemory(load_nvml() if settings.device is Device.CUDA else None)
        self.closing = asyncio.Event()  # what answers until something happens elsewhere ends now
        self._tasks: set[asyncio.Task[None]] = set()
        self._warm: bool | str = False

    def _forget(self, tenant: str, image_id: str) -> None:
        self.embeddings.forget(tenant, image_id)
        self._masks.forget(tenant, image_id)
        self._maps.forget(tenant, image_id)
        self._grids.forget(tenant, image_id)

    @property
    def jobs(self) -> JobServices:
        """Raises NotAllowed where there are to be none."""
        if self._jobs is None:
            raise NotAllowed(
                "There are no jobs here: no Redis is named for them.",
                remedy="Set SEGSERVE_JOBS_REDIS_URL to a durable Redis (noeviction, append-only file).",
            )
        return self._jobs

    def new_timings(self) -> Timings:
        return Timings(self.metrics.requests.record_stage)

    def run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests; it ends with the service. What it raises is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    def start_encoding(self, record: ImageRecord, model: PromptableModel) -> None:
        """Begin to encode an uploaded image; a click will meet the same errors and report them. Nobody knows yet
        which part of a large one will be clicked."""
        if record.tiles is not None:
            return

        async def encode() -> None:
            with suppress(SegserveError):
                await self.embeddings.get_prepared(DEFAULT_TENANT, record.image_id, model, self.new_timings())

        self.run_in_background(encode())

    async def get_packed_embedding(self, image_id: str, model: PromptableModel, timings: Timings) -> bytes:
        """As safetensors, fp16. Raises as `Embeddings.get_prepared` does."""
        return pack_embedding(await self.embeddings.get_embedding(DEFAULT_TENANT, image_id, model, timings))

    async def start(self, *, warm_up: bool = True) -> None:
        if self.settings.exposed:
            log.warning(f"keys: {NO_KEYS}", host=self.settings.host)
        if self._redis is not None:
            started = await asyncio.to_thread(self._redis.start)
            log.info("private Redis " + ("started" if started else "adopted"), socket=str(self._redis.socket))
            self.run_in_background(self._redis.keep())
        if self._jobs is not None:
            await self._jobs.start()
            for work in self._jobs.background_tasks():
                self.run_in_background(work)
        self.run_in_background(self._listen())
        self.run_in_background(self._observe())
        if self.settings.retention_days:
            age = timedelta(days=self.settings.retention_days)
            self.run_in_background(self.images.expire(age, EXPIRY_CHECK_S))
            self.run_in_background(self.files.expire(age, EXPIRY_CHECK_S))
        if warm_up:
            self.run_in_background(self.warm_up())

    async def stop(self) -> None:
        await cancel_and_wait(self._tasks)
        if self._jobs is not None:
            await self._jobs.stop()
        await self.encoder.close()
        await self.cache.close()
        # Beside the event loop: what runs may be waiting for it, to read an image.
        await asyncio.to_thread(self.whole_image_executor.close)
        await asyncio.to_thread(self.rendering_pool.close)
        for pool in (self.decode_pool, self._readers, self._grid_workers, self._probing):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        if self._redis is not None:
            await asyncio.to_thread(self._redis.stop)

    async def _listen(self) -> None:
        """Follow what the other replicas tell: images deleted, embeddings made."""
        async for notice in self.cache.listen():
            match notice:
                case ImageDeleted(tenant, image_id):
                    self._forget(tenant, image_id)
                case EmbeddingReady(key):
                    self._flights.wake(key)
                case None:  # something may have been missed
                    self._flights.wake(None)
                    await self.images.forget_missing(
                        self.embeddings.images() | self._maps.images() | self._grids.images()
                    )

    async def _observe(self) -> None:
        """Keep the gauges that nothing else moves: the loop's lag, what Redis and the devices hold."""
        loop, evicted, next_look = asyncio.get_running_loop(), None, 0.0
        while True:
            due = loop.time() + LAG_CHECK_S
            await asyncio.sleep(LAG_CHECK_S)
            self.metrics.process.set_event_loop_lag(max(0.0, loop.time() - due))
            if loop.time() < next_look:
                continue
            next_look = loop.time() + LOOK_S
            for device, used in (await asyncio.to_thread(self.device_memory.used)).items():
                self.metrics.process.set_device_memory(device, used)
            with suppress(CacheUnavailable):
                entries, nbytes, now_evicted = await self.cache.usage()
                self.metrics.caches.set_size("redis", entries, nbytes)
                if evicted is not None:
                    self.metrics.caches.count_evictions("redis", max(0, now_evicted - evicted))
                evicted = now_evicted

    async def warm_up(self) -> None:
        """Load the preloaded models and click once on nothing, so that the first real click is not the slow one."""
        try:
            for name in dict.fromkeys((self.settings.default_model, *self.settings.preload)):
                await asyncio.to_thread(self._run_once, await self.registry.get(name, PromptableModel))
            self._warm = True
        except SegserveError as error:
            self._warm = str(error)
            log.error("warm-up failed", reason=str(error))

    def _run_once(self, model: PromptableModel) -> None:
        """Every graph that this process runs, on nothing."""
        dims = model.manifest.dims
        empty = {
            "embedding": np.zeros(dims.embedding, np.float32),
            **{f"high_res_{i}": np.zeros(shape, np.float32) for i, shape in enumerate(dims.high_res)},
        }
        embedding = encode_empty_image(model, self.settings.max_batch) if self._encodes else empty
        if self._decodes:
            click_on_empty_image(model, embedding)
            if model.has_ais_decoder:
                model.predict_ais_maps(embedding)

    async def readiness(self) -> tuple[str, dict[str, str]]:
        """("ready" | "degraded" | "unavailable", what each part says). Unavailable: no click can be answered;
        a worker encodes with or without the cache."""
        checks = {"models": "ok" if self._warm is True else self._warm or "loading", "cache": "ok"}
        if self.settings.exposed:
            checks["keys"] = NO_KEYS
        try:
            await self.cache.ping()
        except CacheUnavailable as error:
            checks["cache"] = str(error)
        answers = checks["cache"] == "ok" or len(self._prepared) > 0 or not self._decodes
        if checks["models"] != "ok" or not answers:
            return "unavailable", checks
        return ("ready" if checks["cache"] == "ok" else "degraded"), checks


def make_data_dir(path: Path) -> None:
    """Raises BadInput where it cannot be made or written to."""
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


def encode_empty_image(model: PromptableModel, most: int) -> Embedding:
    """An image, after as many as may come together."""
    edge = model.preprocess.input_size
    nothing = np.zeros((most, 3, edge, edge), np.float32)
    if most > 1:
        with suppress(OutOfMemory):  # too many for the device are halved when they come
            model.encode_batch(nothing)
    return model.encode(nothing[:1])


def click_on_empty_image(model: PromptableModel, embedding: Embedding) -> None:
    """One point, one on a mask, and as many as another graph is for."""
    edge, low = model.preprocess.input_size, model.manifest.dims.low
    image = PreparedImage(Size(edge, edge), embedding, model.prepare(embedding, None))
    for count, prior in ((1, None), (1, np.zeros((low, low), np.float32)), (FOLD_BELOW_TOKENS, None)):
        middle = Prompt(np.full((count, 2), edge / 2, np.float32), np.ones(count, np.int64), logits=prior)
        with suppress(BadInput):  # some models take no mask, or few points
            decode_prompt(model, image, middle, None, Select.BEST, Timings())


def log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background work failed", exc_info=error)
