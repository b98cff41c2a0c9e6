"""All that jobs need, put together from the settings: their Redis, the queue, and the worker of a service alone."""

import asyncio
import subprocess
from contextlib import suppress

import structlog

from segserve.errors import NoPermission, SegserveError
from segserve.jobs.embedded import EmbeddedWorker, this_program
from segserve.jobs.ledger import Ledger
from segserve.jobs.queue import Dockets, JobQueue
from segserve.jobs.results import Results
from segserve.metrics import Metrics
from segserve.settings import Settings
from segserve.store.objects import Objects
from segserve.store.private_redis import PrivateRedis
from segserve.types import Priority

DAY_S = 86_400
REDIS_CHECK_S = 0.5
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
    """Raises NoPermission where there are to be no jobs. works_here: this is a worker, which starts none beside it."""

    def __init__(self, settings: Settings, objects: Objects, metrics: Metrics, *, works_here: bool) -> None:
        found = jobs_redis(settings)
        if found is None:
            raise NoPermission(
                "There are no jobs here: no Redis is named for them.",
                remedy="Set SEGSERVE_JOBS_REDIS_URL to a durable Redis (noeviction, append-only file).",
            )
        self.url, self._server = found
        self._metrics = metrics
        self.ledger = Ledger(
            self.url,
            settings.redis_timeout_s,
            ttl_s=int(settings.job_ttl_days * DAY_S),
            most_active=settings.max_jobs,
        )
        self.results = Results(objects)
        self._dockets = Dockets(self.url)
        self._worker: EmbeddedWorker | None = None
        if self._server is not None and settings.job_workers and not works_here:
            command = this_program("worker", "--metrics-port", "0", "--with-parent")
            self._worker = EmbeddedWorker(command, settings.as_environment())
        self.queue = JobQueue(
            self.ledger, self._dockets, self.results, wake=self._worker.want if self._worker else None
        )

    async def start(self) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.start)

    async def keep(self) -> None:
        """What runs beside the requests, until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._server is not None:
                group.create_task(self._keep_redis(self._server))
            if self._worker is not None:
                group.create_task(self._worker.keep())
            group.create_task(self._observe())

    async def stop(self) -> None:
        if self._worker is not None:
            await asyncio.to_thread(self._worker.stop)
        await self._dockets.close()
        await self.ledger.close()
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)

    async def _keep_redis(self, server: PrivateRedis) -> None:
        while True:
            await asyncio.sleep(REDIS_CHECK_S)
            try:
                if await asyncio.to_thread(server.start):
                    log.warning("the jobs' private Redis had died and was started again")
            except (SegserveError, OSError, subprocess.SubprocessError) as error:
                log.error("the jobs' private Redis cannot be started", reason=str(error))

    async def _observe(self) -> None:
        """Count the jobs; those that an earlier process left wake the worker."""
        while True:
            with suppress(SegserveError):
                counts = await self.ledger.count_active()
                for priority in Priority:
                    for state in ("queued", "running"):
                        self._metrics.jobs(priority, state, counts.get((priority, state), 0))
                if counts and self._worker is not None:
                    self._worker.want()
            await asyncio.sleep(LOOK_S)
