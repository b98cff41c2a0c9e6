"""All that jobs need, put together from the settings: their Redis, the queue, and the worker of a service alone."""

import asyncio
import subprocess
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

import structlog

from segserve.errors import SegserveError
from segserve.jobs.engine.chunked_work import Work
from segserve.jobs.engine.embedded_worker import EmbeddedWorker, this_program
from segserve.jobs.engine.job import Kind, State
from segserve.jobs.engine.job_queue import Dockets, JobQueue
from segserve.jobs.engine.job_store import Ledger
from segserve.jobs.engine.result_store import Results
from segserve.jobs.engine.webhook_queue import Hooks
from segserve.jobs.engine.webhook_sender import PURPOSE, HookSender, Signer
from segserve.jobs.engine.worker import JobWorker
from segserve.metrics import Metrics
from segserve.outbound_http import HostAllowlist
from segserve.settings import Settings
from segserve.store.object_store import ObjectStore
from segserve.store.private_redis import PrivateRedis
from segserve.types import Priority

DAY_S = 86_400
LOOK_S = 5.0

log = structlog.get_logger(__name__)


def jobs_redis(settings: Settings) -> tuple[str, PrivateRedis | None] | None:
    """The address of the jobs' Redis, and the server where it is a private one. None: there are to be no jobs, for
    replicas that share a cache must share their jobs too."""
    if settings.jobs_redis_url is not None:
        return settings.jobs_redis_url, None
    if settings.redis_url is not None:
        return None
    server = PrivateRedis(settings.data_dir / "jobs", settings.jobs_mb, durable=True)
    return server.url, server


class JobParts:
    """url, server: as `jobs_redis` finds them. alone: where the server is private, nobody else will run the jobs."""

    def __init__(
        self,
        url: str,
        server: PrivateRedis | None,
        settings: Settings,
        objects: ObjectStore,
        metrics: Metrics,
        *,
        alone: bool,
    ) -> None:
        self._url, self._server, self._metrics = url, server, metrics
        self._lease_s, self._keep_s = settings.job_lease_s, settings.job_ttl_days * DAY_S
        self._ledger = Ledger(
            url,
            settings.redis_timeout_s,
            ttl_s=int(settings.job_ttl_days * DAY_S),
            most_active=settings.max_jobs,
            lease_s=settings.job_lease_s,
            on_end=metrics.job_ended,
        )
        metrics.expect_jobs(list(Kind), [state for state in State if state.ended])
        self._results = Results(objects)
        self._dockets = Dockets(url)
        self._worker: EmbeddedWorker | None = None
        if server is not None and settings.job_workers and alone:
            command = this_program("worker", "--metrics-port", "0", "--with-parent")
            self._worker = EmbeddedWorker(command, settings.as_environment())
        wake = self._worker.want if self._worker else None
        self.queue = JobQueue(self._ledger, self._dockets, self._results, wake)
        self._hooks, self._sends = Hooks(url, settings.redis_timeout_s), not alone
        self.sender = HookSender(
            self._hooks,
            HostAllowlist(settings.webhook_hosts, private=settings.webhook_private, purpose=PURPOSE),
            Signer(settings.webhook_secret) if settings.webhook_hosts else None,
            settings.webhook_timeout_s,
            metrics.webhook,
        )

    def worker(self, works: Mapping[Kind, Work]) -> JobWorker:
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

    def beside(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the requests, each until cancelled."""
        found = [self._observe()]
        if self._server is not None:
            found.append(self._server.keep())
        if self._worker is not None:
            found.append(self._worker.keep())
        if self._sends:
            found += self.sender.senders()
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
                    for state in (State.QUEUED, State.RUNNING):
                        self._metrics.jobs(priority, state, counts.get((priority, state), 0))
                if self._worker is not None and (counts or await self._hooks.waiting()):
                    self._worker.want()
            await asyncio.sleep(LOOK_S)
