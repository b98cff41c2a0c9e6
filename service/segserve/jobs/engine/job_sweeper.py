"""The sweep: finds jobs that are in no docket, and deletes the files of expired jobs."""

import asyncio
import time
from contextlib import suppress

import structlog

from segserve.errors import JobNotFound, JobsUnavailable, SegserveError
from segserve.jobs.engine.job_queue import Dockets
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.engine.result_store import ResultStore

# How long a lost job may have to wait.
SWEEP_INTERVAL_S = 30.0

# Listing all files of all jobs is slow in a large bucket, and expired files do no harm for an hour.
EXPIRY_INTERVAL_S = 3600.0

log = structlog.get_logger(__name__)


class JobSweeper:
    """`JobSweeper` runs beside a worker.

    url: of the jobs' Redis.
    keep_s: age at which files of unknown jobs are deleted.
    """

    def __init__(self, url: str, store: JobStore, results: ResultStore, keep_s: float) -> None:
        self._url, self._store, self._results, self._keep_s = url, store, results, keep_s

    async def run(self) -> None:
        """Sweep until cancelled."""
        dockets = Dockets(self._url)
        next_expiry = 0.0
        try:
            while True:
                with suppress(JobsUnavailable):
                    await self._deliver_lost_jobs(dockets)
                if time.monotonic() > next_expiry:
                    with suppress(SegserveError):
                        for tenant in await self._results.list_tenants():
                            await self._delete_expired_files(tenant)
                    next_expiry = time.monotonic() + EXPIRY_INTERVAL_S
                await asyncio.sleep(SWEEP_INTERVAL_S)
        finally:
            await dockets.close()

    async def _deliver_lost_jobs(self, dockets: Dockets) -> None:
        """Add every active job to its docket, if it is not there: a crash, or a Redis that lost its last second, may
        have left it out. Raises JobsUnavailable."""
        for tenant, job_id in await self._store.list_active():
            try:
                job = await self._store.get(tenant, job_id)
                await dockets.add(job.priority, tenant, job_id)
            except JobsUnavailable:
                raise
            # The job was deleted meanwhile, or is of a kind that only a newer version knows.
            except (SegserveError, ValueError) as error:
                log.warning("job skipped", job_id=job_id, reason=str(error))

    async def _delete_expired_files(self, tenant: str) -> None:
        """Delete the files of jobs that the job store does not know any more."""
        for job_id in await self._results.list_older_than(tenant, self._keep_s):
            try:
                await self._store.get(tenant, job_id)
            except JobNotFound:
                await self._results.delete_job(tenant, job_id)
