"""All that jobs need, put together from the settings: their Redis, the queue, and the worker of a service alone."""

import asyncio
import subprocess
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

import structlog

from segserve.errors import SegserveError
from segserve.jobs.engine.embedded_worker import EmbeddedWorker, segserve_command
from segserve.jobs.engine.job import JobKind, JobState
from segserve.jobs.engine.job_kind_runner import JobKindRunner
from segserve.jobs.engine.job_queue import Dockets, JobQueue
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.engine.result_store import ResultStore
from segserve.jobs.engine.webhook_queue import WebhookQueue
from segserve.jobs.engine.webhook_sender import WEBHOOK_PURPOSE, WebhookSender, WebhookSigner
from segserve.jobs.engine.worker import JobWorker
from segserve.metrics import Metrics
from segserve.outbound_http import HostAllowlist
from segserve.settings import Settings
from segserve.store.object_store import ObjectStore
from segserve.store.private_redis import PrivateRedis
from segserve.types import Priority

DAY_S = 86_400
COUNT_INTERVAL_S = 5.0

log = structlog.get_logger(__name__)


def find_jobs_redis(settings: Settings) -> tuple[str, PrivateRedis | None] | None:
    """The address of the jobs' Redis, and the server where it is a private one. None: there are to be no jobs, for
    replicas that share a cache must share their jobs too."""
    if settings.jobs_redis_url is not None:
        return settings.jobs_redis_url, None
    if settings.redis_url is not None:
        return None
    server = PrivateRedis(settings.data_dir / "jobs", settings.jobs_mb, durable=True)
    return server.url, server


class JobServices:
    """`JobServices` holds all parts of the jobs.

    url, server: as `find_jobs_redis` returns them.
    starts_worker: True if this process starts a worker of its own where the Redis is private.
    """

    def __init__(
        self,
        url: str,
        server: PrivateRedis | None,
        settings: Settings,
        objects: ObjectStore,
        metrics: Metrics,
        *,
        starts_worker: bool,
    ) -> None:
        self._url, self._server, self._metrics = url, server, metrics
        self._lease_s, self._keep_s = settings.job_lease_s, settings.job_ttl_days * DAY_S
        self._ledger = JobStore(
            url,
            settings.redis_timeout_s,
            ttl_s=int(settings.job_ttl_days * DAY_S),
            max_active=settings.max_jobs,
            lease_s=settings.job_lease_s,
            on_end=metrics.job_ended,
        )
        metrics.expect_jobs(list(JobKind), [state for state in JobState if state.has_ended])
        self._results = ResultStore(objects)
        self._dockets = Dockets(url)
        self._worker: EmbeddedWorker | None = None
        if server is not None and settings.job_workers and starts_worker:
            command = segserve_command("worker", "--metrics-port", "0", "--with-parent")
            self._worker = EmbeddedWorker(command, settings.as_environment())
        wake = self._worker.wake if self._worker else None
        self.queue = JobQueue(self._ledger, self._dockets, self._results, wake)
        self._hooks, self._sends = WebhookQueue(url, settings.redis_timeout_s), not starts_worker
        self.webhook_sender = WebhookSender(
            self._hooks,
            HostAllowlist(settings.webhook_hosts, private=settings.webhook_private, purpose=WEBHOOK_PURPOSE),
            WebhookSigner(settings.webhook_secret) if settings.webhook_hosts else None,
            settings.webhook_timeout_s,
            metrics.webhook,
        )

    def create_worker(self, works: Mapping[JobKind, JobKindRunner]) -> JobWorker:
        return JobWorker(
            self._url,
            self._ledger,
            self._results,
            works,
            self._metrics,
            lease_s=self._lease_s,
            keep_s=self._keep_s,
        )

    async def start(self) -> None:
        """Without its Redis there are no jobs for now; clicks need none."""
        if self._server is None:
            return
        try:
            await asyncio.to_thread(self._server.start)
        except (SegserveError, OSError, subprocess.SubprocessError) as error:
            log.error("the jobs' private Redis cannot be started", reason=str(error))

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests, each until cancelled."""
        found = [self._observe()]
        if self._server is not None:
            found.append(self._server.keep())
        if self._worker is not None:
            found.append(self._worker.keep_running())
        if self._sends:
            found += self.webhook_sender.background_tasks()
        return found

    async def stop(self) -> None:
        if self._worker is not None:
            await self._worker.stop()
        await self._dockets.close()
        await self._ledger.close()
        await self._hooks.close()
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)

    async def _observe(self) -> None:
        """Count the jobs; those that an earlier process left wake the worker, and webhooks do."""
        while True:
            with suppress(SegserveError):
                counts = await self._ledger.count_active()
                for priority in Priority:
                    for state in (JobState.QUEUED, JobState.RUNNING):
                        self._metrics.jobs(priority, state, counts.get((priority, state), 0))
                if self._worker is not None and (counts or await self._hooks.count()):
                    self._worker.wake()
            await asyncio.sleep(COUNT_INTERVAL_S)
