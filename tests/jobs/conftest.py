from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from segserve.store.private_redis import PrivateRedis
from tests.jobs.counting_job import JobEngine

OpenEngine = Callable[..., AbstractAsyncContextManager[JobEngine]]


@pytest.fixture
def jobs_redis(tmp_path: Path) -> Iterator[PrivateRedis]:
    server = PrivateRedis(tmp_path / "jobs", 64, durable=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def open_engine(jobs_redis: PrivateRedis, tmp_path: Path) -> OpenEngine:
    """Return a function that opens a job engine inside the test's event loop."""

    @asynccontextmanager
    async def opened(quota_bytes: int = 0) -> AsyncIterator[JobEngine]:
        engine = JobEngine(jobs_redis.url, tmp_path, quota_bytes=quota_bytes)
        try:
            yield engine
        finally:
            await engine.close()

    return opened
