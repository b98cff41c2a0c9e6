"""What jobs were asked and what they made, in the object store: one object a chunk, under a name that its number
alone decides, so that a chunk that runs twice writes the same bytes to the same place."""

import time
from collections.abc import AsyncIterator
from itertools import pairwise

from segserve.store import keys
from segserve.store.objects import Objects


class Results:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def put_request(self, tenant: str, job_id: str, request: bytes) -> None:
        await self._objects.put(keys.job_files(tenant, job_id) + "request.json", request)

    async def request(self, tenant: str, job_id: str) -> bytes | None:
        return await self._objects.get(keys.job_files(tenant, job_id) + "request.json")

    async def put_chunk(self, tenant: str, job_id: str, chunk: int, lines: list[bytes]) -> None:
        """lines: one JSON object each, one for each unit, in order."""
        await self._objects.put(chunk_path(tenant, job_id, chunk), b"".join(line + b"\n" for line in lines))

    async def lines(self, tenant: str, job_id: str, ends: list[int], after: int) -> AsyncIterator[bytes]:
        """The lines of the published chunks but for the first `after`. ends: units done after each chunk."""
        for chunk, (begin, end) in enumerate(pairwise([0, *ends])):
            if end <= after:
                continue
            content = await self._objects.get(chunk_path(tenant, job_id, chunk)) or b""
            for line in content.splitlines()[max(0, after - begin) :]:
                yield line

    async def remove(self, tenant: str, job_id: str) -> None:
        entries = await self._objects.list(keys.job_files(tenant, job_id))
        await self._objects.delete([entry.path for entry in entries])

    async def older_than(self, tenant: str, age_s: float) -> set[str]:
        """The jobs of which nothing was written for so long."""
        prefix, limit = keys.jobs_files(tenant), time.time() - age_s
        written: dict[str, float] = {}
        for entry in await self._objects.list(prefix):
            job_id = entry.path.removeprefix(prefix).partition("/")[0]
            written[job_id] = max(entry.modified, written.get(job_id, 0.0))
        return {job_id for job_id, at in written.items() if at < limit}


def chunk_path(tenant: str, job_id: str, chunk: int) -> str:
    return f"{keys.job_files(tenant, job_id)}chunks/{chunk:06d}.ndjson"
