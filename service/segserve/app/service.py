"""The service that answers clients and runs jobs: its parts, its life cycle, and what all its frontends share."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from math import ceil

import structlog

from segserve.app.authentication import create_grants, create_sign_ins, create_signers
from segserve.app.automatic_parts import AutomaticParts
from segserve.app.click_parts import ClickParts
from segserve.app.encoding_service import EncodingService
from segserve.app.roles import Role
from segserve.app.upload_parts import UploadParts
from segserve.bounded_executor import BoundedExecutor
from segserve.encode.encode_request import Encoder
from segserve.errors import NotAllowed, SegserveError
from segserve.identity.identity import current_tenant
from segserve.instances.segmenter import InstanceSegmenter
from segserve.jobs.job_services import JobServices, find_jobs_redis
from segserve.jobs.tenant_deleter import TenantDeleter
from segserve.large_requests import LargeRequests
from segserve.models.model_advice import ModelAdvisor
from segserve.models.promptable_model import PromptableModel
from segserve.rendering.pool import RenderingPool
from segserve.semantic.segmenter import SemanticSegmenter
from segserve.settings import Settings
from segserve.store.redis_cache import EmbeddingReady, ImageDeleted, TenantGone, pack_embedding
from segserve.timing import Timings
from segserve.types import ImageRecord

# How often images and files older than SEGSERVE_RETENTION_DAYS are looked for.
EXPIRY_INTERVAL_S = 300.0
# Threads that draw results of jobs. They have low priority, and a drawing is rarely waited for.
RENDERING_THREADS = 2
# Results drawn or sent at the same time, taking turns in these threads: each holds decoded frames in memory.
MAX_RENDERED_RESULTS = 16

# Logged where the header Host may be anything.
ANY_HOST = "any: set SEGSERVE_ALLOWED_HOSTS, or pages can reach this address through a user's browser (DNS rebinding)"

log = structlog.get_logger(__name__)


class Service(EncodingService):
    """`Service` answers prompts, segments whole images, keeps uploads, and reaches the jobs.

    encoder: sends images to encoder workers; None encodes them in this process.
    role: API, WORKER, or LOCAL; an encoder worker is an `EncodingService`.
    """

    def __init__(
        self, settings: Settings, encoder: Encoder | None = None, *, role: Role = Role.LOCAL
    ) -> None:
        super().__init__(settings, encoder, role=role)
        # None: no keys are asked for.
        signers = create_signers(settings, self.storage.objects)
        self.grants = create_grants(self.authenticators, signers)
        # None: there is no issuer at which people sign in.
        self.sign_ins = create_sign_ins(settings, self.authenticators, signers, self.issuer_documents)
        clicks = self._clicks = ClickParts(self)
        self.embeddings, self.frame_embeddings = clicks.embeddings, clicks.frame_embeddings
        self.segmenter, self.click_limit, self.decode_pool = (
            clicks.segmenter,
            clicks.limit,
            clicks.decode_pool,
        )

        executor = self.whole_image_executor = BoundedExecutor(
            settings.whole_workers, settings.whole_queue, self.metrics
        )
        self._automatic = AutomaticParts(self, self.embeddings, clicks.example_resolver, executor)
        self.automatic, self.similar = self._automatic.segmenter, self._automatic.similar

        uploads = self._uploads = UploadParts(self, self._forget)
        self.images, self.files, self.leased_files = uploads.images, uploads.files, uploads.leased_files
        self.direct_uploads, self.frames = uploads.direct_uploads, uploads.frames
        self.tiles, self.tile_pool = uploads.tiles, uploads.tile_pool
        self.image_fetcher, self.batch_roots = uploads.image_fetcher, uploads.batch_roots
        self.dicomweb_fetcher = uploads.dicomweb_fetcher

        self.semantic = SemanticSegmenter(self.images, self.registry, executor, self.metrics)
        self.instances = InstanceSegmenter(self.images, self.registry, executor, self.metrics)
        self.model_advisor = ModelAdvisor(self.registry)
        self.large_requests = LargeRequests()
        self.rendering_pool = RenderingPool(
            RENDERING_THREADS, MAX_RENDERED_RESULTS, ceil(MAX_RENDERED_RESULTS * settings.max_client_share)
        )
        self._jobs = self._create_jobs()

    def _create_jobs(self) -> JobServices | None:
        if not self.role_options.has_jobs or (redis := find_jobs_redis(self.settings)) is None:
            return None
        return JobServices(
            *redis,
            self.settings,
            self.storage.objects,
            self.storage.images.quota,
            self.storage.counts,
            self.tenant_policies,
            self.metrics,
            runs_jobs=self.role_options.runs_jobs,
        )

    @property
    def has_jobs(self) -> bool:
        return self._jobs is not None

    @property
    def jobs(self) -> JobServices:
        """Raises NotAllowed if this process has no jobs."""
        if self._jobs is None:
            raise NotAllowed(
                "There are no jobs here: no Redis is named for them.",
                remedy="Set SEGSERVE_JOBS_REDIS_URL to a durable Redis (noeviction, append-only file).",
            )
        return self._jobs

    async def start(self, *, warm_up: bool = True) -> None:
        await super().start(warm_up=warm_up)
        if self.role_options.reads_uploads and self.settings.accepts_any_host:
            log.warning(f"hosts: {ANY_HOST}", host=self.settings.host)
        if self._jobs is not None:
            await self._jobs.start()
            for work in self._jobs.background_tasks():
                self.run_in_background(work)
        self.run_in_background(self._follow_notices())
        if warm_up and self.role_options.reads_uploads:
            self._uploads.sandbox.start()
        if self.role_options.reads_uploads:
            self.run_in_background(self.leased_files.keep())
            self.run_in_background(self.direct_uploads.expire())
            self.run_in_background(self._create_deleter().run())
        self.run_in_background(self.storage.deletions.watch())
        if self.settings.retention_days or self.settings.tenants_file:
            self.run_in_background(self.images.expire(self._find_max_age, EXPIRY_INTERVAL_S))
            self.run_in_background(self.files.expire(self._find_max_age, EXPIRY_INTERVAL_S))

    def _create_deleter(self) -> TenantDeleter:
        jobs, usage = (None, None) if self._jobs is None else (self._jobs.store, self._jobs.usage)
        return TenantDeleter(self.storage.deletions, self.storage.objects, self.cache, jobs, usage)

    def _find_max_age(self, tenant: str) -> timedelta | None:
        return self.tenant_policies.get(tenant).max_age

    async def stop(self) -> None:
        await self.frames.close()
        await self.leased_files.close()
        await super().stop()

    async def _close_jobs(self) -> None:
        if self._jobs is not None:
            await self._jobs.stop()

    def _close_pools(self) -> None:
        self._uploads.sandbox.close()  # first: threads may wait for it
        self.whole_image_executor.close()
        self.rendering_pool.close()
        self._clicks.close()
        super()._close_pools()
        self._automatic.close()
        self._uploads.close()

    async def _follow_notices(self) -> None:
        """React to what replicas tell each other: deleted images, embeddings that are ready. Runs until cancelled."""
        async for notice in self.cache.listen():
            match notice:
                case ImageDeleted(tenant, image_id):
                    self._forget(tenant, image_id)
                case TenantGone(tenant):
                    self._forget_tenant(tenant)
                case EmbeddingReady(key):
                    self._clicks.single_flight.wake(key)
                case None:  # notices may have been missed
                    self._clicks.single_flight.wake(None)
                    await self.images.forget_missing(self._held_images())

    def _held_images(self) -> set[tuple[str, str]]:
        return self._clicks.held_images() | self._automatic.held_images() | self.tiles.held_images()

    def _forget_tenant(self, tenant: str) -> None:
        """Drop what this process holds of a tenant's images."""
        for owner, image_id in self._held_images():
            if owner == tenant:
                self._forget(owner, image_id)

    def _forget(self, tenant: str, image_id: str) -> None:
        """Drop what this process holds of an image."""
        self._clicks.forget(tenant, image_id)
        self._automatic.forget(tenant, image_id)
        self.tiles.forget(tenant, image_id)

    def _get_jobs_check(self) -> Callable[[], Awaitable[str]] | None:
        return None if self._jobs is None else self._jobs.check

    def _works_without_cache(self) -> bool:
        return len(self._clicks.prepared) > 0  # the images held here can still be clicked

    def start_encoding(self, record: ImageRecord, model: PromptableModel) -> None:
        """Start to encode an image that was just uploaded, without waiting for it.

        Errors are dropped: the first click will meet the same ones. A large image is not encoded, since nobody knows
        yet which part of it will be clicked.
        """
        if record.tiles is not None:
            return

        async def encode() -> None:
            with suppress(SegserveError):
                await self.embeddings.get_prepared(
                    current_tenant(), record.image_id, model, self.new_timings()
                )

        self.run_in_background(encode())

    async def get_packed_embedding(self, image_id: str, model: PromptableModel, timings: Timings) -> bytes:
        """Return an image's embedding as safetensors, fp16. Raises what `Embeddings.get_prepared` raises."""
        embedding = await self.embeddings.get_embedding(current_tenant(), image_id, model, timings)
        return await asyncio.to_thread(pack_embedding, embedding)
