"""A kind of job that needs no model: it counts. And a worker process to kill: `python -m tests.jobs.counting_job URL
DIR`."""

import asyncio
import hashlib
import signal
import sys
import time
from pathlib import Path

import orjson

from segserve.errors import BadInput, Unavailable
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.job_queue import Dockets, JobQueue
from segserve.jobs.engine.job_store import JobStore
from segserve.jobs.engine.result_store import PublishedResults, ResultStore
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.jobs.engine.worker import JobWorker
from segserve.metrics import Metrics
from segserve.store import redis_keys
from segserve.store.object_store import open_store
from tests.quotas import close_quota, open_quota

TTL_S = 600
LEASE_S = 1.0
TURN_S = 0.3
UNITS_PER_CHUNK = 4


def counting_request(total: int, unit_s: float = 0.0, **more: object) -> bytes:
    """Return the request of a job of `total` units that take `unit_s` seconds each.

    more: `bad` and `transient` name the chunk that fails for ever or for now, `kills` the chunk that kills its worker;
    `salt` goes into the digest of each unit.
    """
    return orjson.dumps({"total": total, "unit_s": unit_s, **more})


def counting_line(unit: int, salt: str = "") -> bytes:
    """Return the result line of a unit."""
    return orjson.dumps({"unit": unit, "digest": hashlib.sha256(f"{salt}{unit}".encode()).hexdigest()})


class CountingRunner:
    """`CountingRunner` writes every unit that begins into the file `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> "OpenCountingJob":
        return OpenCountingJob(job.job_id, orjson.loads(request), self._log)


class OpenCountingJob:
    def __init__(self, job_id: str, request: dict[str, object], log: Path) -> None:
        self._job_id, self._request, self._log = job_id, request, log
        self.total = int(str(request["total"]))

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        if number * UNITS_PER_CHUNK >= self.total:
            return None
        return await asyncio.to_thread(self._count, number, stop)

    def _count(self, number: int, stop: StopSignal) -> Chunk:
        if self._request.get("bad") == number:
            raise BadInput("This part cannot be done.", field="input", remedy="Ask for another.")
        if self._request.get("transient") == number:
            raise Unavailable("Away for a while.")
        if self._request.get("kills") == number:
            signal.raise_signal(signal.SIGKILL)
        lines = []
        for unit in range(number * UNITS_PER_CHUNK, min(self.total, (number + 1) * UNITS_PER_CHUNK)):
            stop.raise_if_set()
            with self._log.open("a") as log:
                log.write(f"{self._job_id} {unit}\n")
            time.sleep(float(str(self._request["unit_s"])))
            lines.append(counting_line(unit, str(self._request.get("salt", ""))))
        return Chunk(lines)

    async def close(self) -> None: ...


class JobEngine:
    """`JobEngine` holds the parts of the jobs over a Redis and a folder, as the service has them."""

    def __init__(self, url: str, folder: Path, max_active: int = 100, quota_bytes: int = 0) -> None:
        self.url, self.folder = url, folder
        self.store = JobStore(url, 2.0, ttl_s=TTL_S, max_active=max_active, lease_s=LEASE_S)
        objects = open_store(None, folder / "objects")
        self._quota = open_quota(objects, url, max_bytes=quota_bytes)
        self.counts, self.results = self._quota._counts, ResultStore(objects, self._quota)
        self._dockets = Dockets(url)
        self.queue = JobQueue(self.store, self._dockets, self.results)

    def create_worker(self) -> JobWorker:
        runners = {JobKind.BATCH: CountingRunner(self.folder / "begun.log")}
        return JobWorker(
            self.url,
            self.store,
            self.results,
            runners,
            Metrics(),
            lease_s=LEASE_S,
            turn_s=TURN_S,
            keep_s=TTL_S,
        )

    async def end_lease(self, tenant: str, job_id: str) -> None:
        """End the lease of a job at once, as time does if its worker is silent."""
        await self.store.redis.delete(redis_keys.job_lease(tenant, job_id))

    async def close(self) -> None:
        await close_quota(self._quota)
        await self._dockets.close()
        await self.store.close()


async def main(url: str, folder: Path) -> None:
    engine = JobEngine(url, folder)
    running = asyncio.create_task(engine.create_worker().run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    await asyncio.gather(running, return_exceptions=True)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
