"""A kind of job that needs no model, and a worker process to kill: `python -m tests.jobs.counting URL DIR`."""

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
from segserve.store import keys
from segserve.store.object_store import open_store

TTL_S = 600
LEASE_S = 1.0
SIZE = 4  # units a chunk


def ask(total: int, unit_s: float = 0.0, **more: object) -> bytes:
    """total units of unit_s seconds; `bad` and `passing` name the chunk that cannot be done, `kills` the one that
    ends its worker. salt: of each unit's digest."""
    return orjson.dumps({"total": total, "unit_s": unit_s, **more})


def line(unit: int, salt: str = "") -> bytes:
    return orjson.dumps({"unit": unit, "digest": hashlib.sha256(f"{salt}{unit}".encode()).hexdigest()})


class Counting:
    """Every unit that was begun is written into `log`."""

    def __init__(self, log: Path) -> None:
        self._log = log

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> "OpenedCounting":
        return OpenedCounting(job.job_id, orjson.loads(request), self._log)


class OpenedCounting:
    def __init__(self, job_id: str, asked: dict[str, object], log: Path) -> None:
        self._job_id, self._asked, self._log = job_id, asked, log
        self.total = int(str(asked["total"]))

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        if number * SIZE >= self.total:
            return None
        return await asyncio.to_thread(self._work, number, stop)

    def _work(self, number: int, stop: StopSignal) -> Chunk:
        if self._asked.get("bad") == number:
            raise BadInput("This part cannot be done.", field="input", remedy="Ask for another.")
        if self._asked.get("passing") == number:
            raise Unavailable("Away for a while.")
        if self._asked.get("kills") == number:
            signal.raise_signal(signal.SIGKILL)
        lines = []
        for unit in range(number * SIZE, min(self.total, (number + 1) * SIZE)):
            stop.raise_if_set()
            with self._log.open("a") as log:
                log.write(f"{self._job_id} {unit}\n")
            time.sleep(float(str(self._asked["unit_s"])))
            lines.append(line(unit, str(self._asked.get("salt", ""))))
        return Chunk(lines)

    async def close(self) -> None: ...


class Parts:
    """The jobs' parts over a Redis and a folder, as the service has them."""

    def __init__(self, url: str, folder: Path, max_active: int = 100) -> None:
        self.url, self.folder = url, folder
        self.ledger = JobStore(url, 2.0, ttl_s=TTL_S, max_active=max_active, lease_s=LEASE_S)
        self.results = ResultStore(open_store(None, folder / "objects"))
        self._dockets = Dockets(url)
        self.queue = JobQueue(self.ledger, self._dockets, self.results)

    def worker(self) -> JobWorker:
        log = self.folder / "begun.log"
        works = {JobKind.BATCH: Counting(log)}
        return JobWorker(self.url, self.ledger, self.results, works, Metrics(), lease_s=LEASE_S, keep_s=TTL_S)

    async def end_lease(self, tenant: str, job_id: str) -> None:
        """As time would, where its worker is silent."""
        await self.ledger._redis.delete(keys.job_lease(tenant, job_id))

    async def close(self) -> None:
        await self._dockets.close()
        await self.ledger.close()


async def main(url: str, folder: Path) -> None:
    parts = Parts(url, folder)
    running = asyncio.create_task(parts.worker().run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    await asyncio.gather(running, return_exceptions=True)
    await parts.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
