"""Submission: a job has a place in the queue, or leaves nothing behind."""

import asyncio
from pathlib import Path

import pytest

from segserve.errors import JobsUnavailable
from segserve.jobs.engine.job import JobKind
from segserve.types import Priority
from tests.jobs.counting_job import JobEngine, counting_request


def test_nothing_is_stored_while_redis_is_away(tmp_path: Path) -> None:
    async def submit() -> None:
        engine = JobEngine(f"unix://{tmp_path}/none.sock", tmp_path)
        for _ in range(3):
            with pytest.raises(JobsUnavailable):
                await engine.queue.submit(
                    "t", JobKind.BATCH, Priority.BATCH, "starter", counting_request(4), "key"
                )
        await engine.close()

    asyncio.run(submit())
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
