"""The parts of the jobs, built from the settings: their Redis, the job queue, the embedded worker and the webhooks."""

import asyncio
import subprocess
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from segserve.errors import JobsUnavailable, SegserveError
from segserve.identity.tenant_policies import TenantPolicies
from segserve.jobs.engine.embedded_worker import EmbeddedWorker, segserve_command
from segserve.jobs.engine.job import JobKind, JobState
from segserve.jobs.engine.job_kind_runner import JobKindRunner
from segserve.jobs.engine.job_queue import Dockets, JobQueue
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.engine.jobs_redis import SETTING
from segserve.jobs.engine.result_store import ResultStore
from segserve.jobs.engine.webhook_queue import WebhookQueue
from segserve.jobs.engine.webhook_sender import WEBHOOK_PURPOSE, WebhookSender, WebhookSigner
from segserve.jobs.engine.worker import JobWorker
from segserve.jobs.usage_store import UsageStore, UsageWriter
from segserve.metrics import Metrics
from segserve.outbound_http import HostAllowlist
from segserve.settings import Settings
from segserve.store.object_store import ObjectStore
from segserve.store.private_redis import PrivateRedis, RedisDataUnreadable
from segserve.store.quota import Quota
from segserve.store.redis_connection import check_password
from segserve.store.storage_counts import StorageCounts
from segserve.types import Priority

DAY_S = 86_400
OK = "ok"

# How often active jobs are counted for the metrics.
COUNT_INTERVAL_S = 5.0

log = structlog.get_logger(__name__)


def find_jobs_redis(settings: Settings) -> tuple[str, PrivateRedis | None] | None:
    """Return the URL of the jobs' Redis, and the server if it is a private one.

    None means that there are no jobs: replicas that share a cache must share their jobs too, so a private Redis would
    not do.
    """
    if settings.jobs_redis_url is not None:
        return settings.jobs_redis_url, None
    if settings.redis_url is not None:
        return None
    server = PrivateRedis(settings.data_dir / "jobs", settings.jobs_mb, durable=True)
    return server.url, server


class JobServices:
    """`JobServices` holds the parts of the jobs of one process.

    url, server: as `find_jobs_redis` returns them.
    runs_jobs: True in a worker, which sends the webhooks too. False in a service: if the Redis is private, nobody else
    would run its jobs, so the service starts an embedded worker.
    """

    def __init__(
        self,
        url: str,
        server: PrivateRedis | None,
        settings: Settings,
        objects: ObjectStore,
        quota: Quota,
        counts: StorageCounts,
        policies: TenantPolicies,
        metrics: Metrics,
        *,
        runs_jobs: bool,
    ) -> None:
        self._url, self._server, self._metrics = url, server, metrics
        self._redis_timeout_s = settings.redis_timeout_s
        self._lease_s, self._turn_s = settings.job_lease_s, settings.job_turn_s
        self._keep_s = settings.job_ttl_days * DAY_S
        self.store = JobStore(
            url,
            settings.redis_timeout_s,
            ttl_s=int(settings.job_ttl_days * DAY_S),
            max_active=settings.max_jobs,
            lease_s=settings.job_lease_s,
            policies=policies,
            on_end=metrics.jobs.count_end,
            on_refused=partial(metrics.requests.count_rejection, "jobs"),
        )
        metrics.jobs.expect_kinds(list(JobKind), [state for state in JobState if state.has_ended])
        self._results = ResultStore(objects, quota)
        self.usage = UsageStore(self.store.redis)
        self._usage_writer = UsageWriter(self.usage, objects, counts, policies, metrics)
        self._dockets = Dockets(url)
        self._embedded_worker: EmbeddedWorker | None = None
        if server is not None and settings.job_workers and not runs_jobs:
            command = segserve_command("worker", "--metrics-port", "0", "--with-parent")
            self._embedded_worker = EmbeddedWorker(command, settings.as_environment())
        wake = self._embedded_worker.wake if self._embedded_worker else None
        self.queue = JobQueue(self.store, self._dockets, self._results, wake)
        self._webhooks, self._runs_jobs = WebhookQueue(url, settings.redis_timeout_s), runs_jobs
        self.webhook_sender = WebhookSender(
            self._webhooks,
            HostAllowlist(settings.webhook_hosts, private=settings.webhook_private, purpose=WEBHOOK_PURPOSE),
            WebhookSigner(settings.webhook_secret) if settings.webhook_hosts else None,
            settings.webhook_timeout_s,
            metrics.jobs.count_webhook,
        )

    def create_worker(self, runners: Mapping[JobKind, JobKindRunner]) -> JobWorker:
        """Return a worker for this process. runners: one for each kind of job."""
        return JobWorker(
            self._url,
            self.store,
            self._results,
            runners,
            self._metrics,
            lease_s=self._lease_s,
            turn_s=self._turn_s,
            keep_s=self._keep_s,
        )

    async def start(self) -> None:
        """Start the private Redis. If it does not start, a service has no jobs for now; clicks do not need it.

        Raises what does not pass by itself: RedisDataUnreadable, and BadInput where another Redis refuses the password.
        A worker, which has nothing else to do, raises every error.
        """
        if self._server is None:
            await check_password(self._url, self._redis_timeout_s, SETTING)
            return
        try:
            await asyncio.to_thread(self._server.start)
        except RedisDataUnreadable:
            raise
        except (SegserveError, OSError, subprocess.SubprocessError) as error:
            if self._runs_jobs:
                raise
            log.error("the jobs' private Redis cannot be started", reason=str(error))

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run in the background; each part runs until cancelled."""
        tasks = [self._count_jobs(), self._usage_writer.run()]
        if not self._runs_jobs:
            tasks.append(self._usage_writer.measure_storage())
        if self._server is not None:
            tasks.append(self._server.keep_running())
        if self._embedded_worker is not None:
            tasks.append(self._embedded_worker.keep_running())
        if self._runs_jobs:
            tasks += self.webhook_sender.background_tasks()
        return tasks

    async def check(self) -> str:
        """Return what `/readyz` says of the jobs: "ok", or why there are none now."""
        try:
            await self.store.ping()
        except JobsUnavailable as error:
            return str(error)
        return OK

    async def stop(self) -> None:
        with suppress(JobsUnavailable):
            await self._usage_writer.write()
        if self._embedded_worker is not None:
            await self._embedded_worker.stop()
        await self._dockets.close()
        await self.store.close()
        await self._webhooks.close()
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)

    async def _count_jobs(self) -> None:
        """Set the gauges of active jobs. Jobs and webhooks that an earlier process left wake the embedded worker."""
        while True:
            with suppress(SegserveError):
                counts = await self.store.count_active()
                for priority in Priority:
                    for state in (JobState.QUEUED, JobState.RUNNING):
                        self._metrics.jobs.set_active(priority, state, counts.get((priority, state), 0))
                if self._embedded_worker is not None and (counts or await self._webhooks.count()):
                    self._embedded_worker.wake()
            await asyncio.sleep(COUNT_INTERVAL_S)
