"""What jobs were asked and what they made, in the object store: one object a chunk, under a name that its number and
the job's revision alone decide, so that a chunk that runs twice writes the same bytes to the same place."""

import time
from collections.abc import AsyncIterator

from segserve.jobs.engine.job import Job, PublishedChunk
from segserve.store import keys
from segserve.store.object_store import ObjectStore


class ResultStore:
    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def put_request(self, tenant: str, job_id: str, asked: str, request: bytes) -> None:
        await self._objects.put(request_path(tenant, job_id, asked), request)

    async def get_request(self, job: Job) -> bytes | None:
        """The latest."""
        return await self._objects.get(request_path(job.tenant, job.job_id, job.request_name))

    async def delete_request(self, tenant: str, job_id: str, asked: str) -> None:
        await self._objects.delete([request_path(tenant, job_id, asked)])

    async def put_chunk(
        self, tenant: str, job_id: str, chunk: int, revision: int, lines: list[bytes], state: bytes | None
    ) -> None:
        """lines: one JSON object each, in order. state: see `work.Chunk`."""
        path = chunk_path(tenant, job_id, chunk, revision)
        if state is not None:
            await self._objects.put(path + STATE_SUFFIX, state)
        await self._objects.put(path + LINES_SUFFIX, b"".join(line + b"\n" for line in lines))

    async def get_chunk(self, tenant: str, job_id: str, chunk: int, revision: int) -> list[bytes]:
        content = await self._objects.get(chunk_path(tenant, job_id, chunk, revision) + LINES_SUFFIX)
        return (content or b"").splitlines()

    async def get_state(self, tenant: str, job_id: str, chunk: int, revision: int) -> bytes | None:
        return await self._objects.get(chunk_path(tenant, job_id, chunk, revision) + STATE_SUFFIX)

    async def delete_state(self, tenant: str, job_id: str, chunk: int, revision: int) -> None:
        await self._objects.delete([chunk_path(tenant, job_id, chunk, revision) + STATE_SUFFIX])

    async def delete_job(self, tenant: str, job_id: str) -> None:
        entries = await self._objects.list(keys.job_files(tenant, job_id))
        await self._objects.delete([entry.path for entry in entries])

    async def list_older_than(self, tenant: str, age_s: float) -> set[str]:
        """The jobs of which nothing was written for so long."""
        prefix, limit = keys.jobs_files(tenant), time.time() - age_s
        written: dict[str, float] = {}
        for entry in await self._objects.list(prefix):
            job_id = entry.path.removeprefix(prefix).partition("/")[0]
            written[job_id] = max(entry.modified, written.get(job_id, 0.0))
        return {job_id for job_id, at in written.items() if at < limit}


class PublishedResults:
    """What a job has published. published: its chunks, in order."""

    def __init__(
        self, results: ResultStore, tenant: str, job_id: str, published: list[PublishedChunk]
    ) -> None:
        self._results, self._tenant, self._job_id = results, tenant, job_id
        self._published = list(published)

    def __len__(self) -> int:
        return len(self._published)

    @property
    def line_count(self) -> int:
        return self._published[-1].lines if self._published else 0

    def append(self, chunk: PublishedChunk) -> None:
        self._published.append(chunk)

    async def read_lines(self, after: int = 0) -> AsyncIterator[bytes]:
        """All but the first `after`."""
        begin = 0
        for number, chunk in enumerate(self._published):
            if chunk.lines > after:
                lines = await self._results.get_chunk(self._tenant, self._job_id, number, chunk.revision)
                for line in lines[max(0, after - begin) :]:
                    yield line
            begin = chunk.lines

    async def read_state(self, chunk: int) -> bytes | None:
        """What the chunk left for those that follow."""
        revision = self._published[chunk].revision
        return await self._results.get_state(self._tenant, self._job_id, chunk, revision)

    async def delete_state(self, chunk: int) -> None:
        revision = self._published[chunk].revision
        await self._results.delete_state(self._tenant, self._job_id, chunk, revision)


LINES_SUFFIX, STATE_SUFFIX = ".ndjson", ".state"


def request_path(tenant: str, job_id: str, asked: str) -> str:
    return f"{keys.job_files(tenant, job_id)}requests/{asked}.json"


def chunk_path(tenant: str, job_id: str, chunk: int, revision: int) -> str:
    return f"{keys.job_files(tenant, job_id)}chunks/{revision:04d}/{chunk:06d}"
