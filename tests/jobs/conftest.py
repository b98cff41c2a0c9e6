from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from segserve.store.private_redis import PrivateRedis
from tests.jobs.counting import Parts

Opening = Callable[[], AbstractAsyncContextManager[Parts]]


@pytest.fixture
def jobs_redis(tmp_path: Path) -> Iterator[PrivateRedis]:
    server = PrivateRedis(tmp_path / "jobs", 64, durable=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def opening(jobs_redis: PrivateRedis, tmp_path: Path) -> Opening:
    """Opens the parts inside the test's event loop."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Parts]:
        parts = Parts(jobs_redis.url, tmp_path)
        try:
            yield parts
        finally:
            await parts.close()

    return opened
