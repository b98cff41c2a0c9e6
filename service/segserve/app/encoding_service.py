"""The encoder worker, and what every other process has too: storage, models, an encoder, background tasks."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from segserve.app.authentication import create_authenticators
from segserve.app.choose_runtimes import choose_runtimes
from segserve.app.gauges import update_gauges
from segserve.app.issuer_documents import IssuerDocuments
from segserve.app.readiness import NO_KEYS, check_readiness
from segserve.app.roles import Role, RoleOptions
from segserve.app.storage import Storage
from segserve.app.trim_memory import keep_memory_trimmed
from segserve.app.warm_up import WarmUp
from segserve.app.watch_encoders import watch_encoders
from segserve.audit_log import AuditLog
from segserve.cancellation import cancel_and_wait
from segserve.device_memory import DeviceMemory, load_nvml
from segserve.encode.counted_encoder import CountedEncoder
from segserve.encode.encode_request import Encoder
from segserve.encode.encoder import LocalEncoder
from segserve.fair_executor import FairExecutor
from segserve.identity.tenant_policies import TenantPolicies, TenantPolicy
from segserve.memory_budget import MemoryBudget
from segserve.metrics import Metrics
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry
from segserve.request_limits import RequestLimits
from segserve.request_rates import RequestRates
from segserve.settings import Settings
from segserve.store.rate_counts import RedisRateCounts
from segserve.timing import Timings
from segserve.types import MB, Device

# An upload or an image to encode that waits longer for memory gets 503.
MAX_IMAGE_MEMORY_WAIT_S = 30.0

# As many as asyncio has.
DEFAULT_THREADS = min(32, (os.cpu_count() or 1) + 4)

log = structlog.get_logger(__name__)


class EncodingService:
    """`EncodingService` encodes images, for other processes or as the base of `Service`.

    `start` opens what needs opening, `stop` closes it again.

    encoder: sends images to encoder workers; None encodes them in this process.
    """

    def __init__(
        self, settings: Settings, encoder: Encoder | None = None, *, role: Role = Role.ENCODER
    ) -> None:
        self.settings, self.role = settings, role
        self.role_options = RoleOptions.for_role(role, settings)
        self.metrics = Metrics()
        self.audit = AuditLog(settings.audit_log)
        self.request_limits = RequestLimits(settings, self.metrics)
        self.read_pool = FairExecutor(settings.decode_workers, "read")  # apart from clicks: uploads are slow
        # For all that this process and its readers decode: uploads, images to encode, images and files of jobs.
        self.image_memory = MemoryBudget(
            settings.image_memory_mb * MB,
            "SEGSERVE_IMAGE_MEMORY_MB",
            max_wait_s=MAX_IMAGE_MEMORY_WAIT_S,
            on_refused=partial(self.metrics.requests.count_rejection, "image_memory"),
        )
        self.tenant_policies = TenantPolicies(
            TenantPolicy(settings.quota_mb * MB, retention_days=settings.retention_days),
            settings.tenants_file,
        )
        self.storage = Storage(settings, self.read_pool, self.image_memory, self.tenant_policies)
        self.cache = self.storage.cache
        # Clients of the API have rates, and guess keys. The API is the client of the other processes.
        has_counts = (settings.has_rates or settings.asks_for_keys) and role is Role.API
        self._rate_counts = (
            RedisRateCounts(self.storage.cache_url, settings.redis_timeout_s) if has_counts else None
        )
        self.issuer_documents = IssuerDocuments(settings.oidc_issuers)
        # None: no keys are asked for.
        self.authenticators = create_authenticators(settings, self._rate_counts, self.issuer_documents)
        self.request_rates = RequestRates(settings, self.metrics, self._rate_counts)
        self.registry = self._open_registry(encodes=encoder is None)
        self._encodes = encoder is None
        self.encoder = CountedEncoder(encoder or self._create_encoder(), self.metrics)
        self.warm_up = WarmUp(
            self.registry,
            settings,
            encodes=encoder is None,
            runs_decoders=self.role_options.runs_decoders,
        )
        self.device_memory = DeviceMemory(load_nvml() if settings.device is Device.CUDA else None)
        self.is_draining = False  # told to stop, and still answering
        # Set when the process stops: answers that wait for an event end then.
        self.closing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def _open_registry(self, *, encodes: bool) -> ModelRegistry:
        return ModelRegistry(
            [self.settings.models_folder, BUILT_IN_MODELS],
            choose_runtimes(self.settings, self.role, encodes=encodes),
            self.settings.models_mb * MB,
            self.metrics.process.set_models_loaded,
        )

    def _create_encoder(self) -> LocalEncoder:
        return LocalEncoder(
            self.storage.images,
            self.storage.region_reader,
            self.cache,
            self.registry,
            self.read_pool,
            self.metrics,
            max_batch=self.settings.max_batch,
            max_waiting=self.settings.encode_queue,
            concurrent_batches=self.role_options.concurrent_encodes,
        )

    def new_timings(self) -> Timings:
        """Return the timings of a new request; each stage is recorded in the metrics too."""
        return Timings(self.metrics.requests.record_stage)

    def run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests until it or the service ends. What it raises is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(log_failure)

    async def start(self, *, warm_up: bool = True) -> None:
        """Open what needs opening. Does not wait for the warm-up, which runs in the background."""
        self.image_memory.attach()
        # For `asyncio.to_thread`: large requests are checked there.
        asyncio.get_running_loop().set_default_executor(FairExecutor(DEFAULT_THREADS, "asyncio"))
        if self.authenticators is not None:
            for authenticator in self.authenticators.members:
                self.run_in_background(authenticator.watch())
        elif self.settings.is_exposed:
            log.warning(f"keys: {NO_KEYS}", host=self.settings.host)
        await self.storage.start()
        if self.storage.private_redis is not None:
            self.run_in_background(self.storage.private_redis.keep_running())
        self.run_in_background(keep_memory_trimmed())
        self.run_in_background(update_gauges(self.metrics, self.cache, self.device_memory))
        if not self._encodes:
            self.run_in_background(watch_encoders(self.encoder))
        if warm_up:
            self.run_in_background(self.warm_up.run())

    async def stop(self) -> None:
        """End the background tasks, let work that began come to its end, and close everything."""
        await cancel_and_wait(self._tasks)
        await self._close_jobs()
        await self.encoder.close()
        if self._rate_counts is not None:
            await self._rate_counts.close()
        await self.storage.close_cache()
        # In threads, not in the event loop: running work may wait for the loop to read an image.
        await asyncio.to_thread(self._close_pools)
        await asyncio.to_thread(self.audit.close)
        await self.storage.stop_redis()

    async def _close_jobs(self) -> None:
        pass

    def _close_pools(self) -> None:
        self.read_pool.shutdown(cancel_futures=True)

    async def check_readiness(self) -> tuple[str, dict[str, str]]:
        """Return the state for `/readyz`, and what each part says: see `readiness.check_readiness`."""
        return await check_readiness(
            self.settings,
            self.cache,
            self.warm_up,
            works_without_cache=self._works_without_cache(),
            is_draining=self.is_draining,
            has_encoders=None if self._encodes else self.encoder.is_reachable(),
            check_jobs=self._get_jobs_check(),
        )

    def _get_jobs_check(self) -> Callable[[], Awaitable[str]] | None:
        return None

    def _works_without_cache(self) -> bool:
        return True  # images are encoded with or without the cache


def log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background work failed", exc_info=error)
