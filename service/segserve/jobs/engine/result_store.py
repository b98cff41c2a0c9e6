"""The requests and results of jobs, in the object store.

A chunk is one object of result lines (.ndjson) and, if the job needs it, one of state (.state). The chunk's number and
the job's revision alone decide their names. So a chunk that runs twice writes the same bytes to the same place.
"""

import time
from collections.abc import AsyncIterator

from segserve.errors import JobNotFound
from segserve.jobs.engine.job import Job, PublishedChunk
from segserve.store import object_paths
from segserve.store.list_tenants import list_tenants
from segserve.store.object_store import ObjectStore
from segserve.store.quota import Quota

LINES_SUFFIX = ".ndjson"
STATE_SUFFIX = ".state"


class ResultStore:
    """`ResultStore` reads, writes and deletes the requests, result lines and states of jobs.

    quota: of the tenant, which they count to.
    """

    def __init__(self, objects: ObjectStore, quota: Quota) -> None:
        self._objects, self._quota = objects, quota

    async def put_request(self, tenant: str, job_id: str, request_name: str, request: bytes) -> None:
        """Write a request. Raises TooLarge where the quota is full, StorageFull."""
        async with self._quota.reserve(tenant, len(request), field="body"):
            await self._objects.put(request_path(tenant, job_id, request_name), request)

    async def get_request(self, job: Job) -> bytes | None:
        """Return the latest request of the job."""
        return await self._objects.get(request_path(job.tenant, job.job_id, job.request_name))

    async def delete_request(self, tenant: str, job_id: str, request_name: str) -> None:
        await self._objects.delete([request_path(tenant, job_id, request_name)])

    async def put_chunk(
        self, tenant: str, job_id: str, chunk: int, revision: int, lines: list[bytes], state: bytes | None
    ) -> None:
        """Write a chunk. lines: one JSON object each, in order. state: see `job_kind_runner.Chunk`.

        Raises TooLarge where the quota is full, StorageFull. Chunks before it stay, so that the job can be retried.
        """
        path, content = chunk_path(tenant, job_id, chunk, revision), b"".join(line + b"\n" for line in lines)
        async with self._quota.reserve(tenant, len(content) + len(state or b""), field=None):
            if state is not None:
                await self._objects.put(path + STATE_SUFFIX, state)
            await self._objects.put(path + LINES_SUFFIX, content)

    async def get_chunk(self, tenant: str, job_id: str, chunk: int, revision: int) -> list[bytes]:
        """Return the lines of a chunk. Raises JobNotFound where they are gone: a reader must not take less for all."""
        content = await self._objects.get(chunk_path(tenant, job_id, chunk, revision) + LINES_SUFFIX)
        if content is None:
            raise JobNotFound(job_id)
        return content.splitlines()

    async def get_state(self, tenant: str, job_id: str, chunk: int, revision: int) -> bytes | None:
        return await self._objects.get(chunk_path(tenant, job_id, chunk, revision) + STATE_SUFFIX)

    async def delete_state(self, tenant: str, job_id: str, chunk: int, revision: int) -> None:
        await self._objects.delete([chunk_path(tenant, job_id, chunk, revision) + STATE_SUFFIX])

    async def delete_job(self, tenant: str, job_id: str) -> None:
        """Delete all objects of a job."""
        entries = await self._objects.list(object_paths.job(tenant, job_id))
        await self._objects.delete([entry.path for entry in entries])
        await self._quota.release(tenant, sum(entry.size for entry in entries))

    async def list_tenants(self) -> list[str]:
        """Return the tenants that have stored anything."""
        return await list_tenants(self._objects)

    async def list_older_than(self, tenant: str, age_s: float) -> set[str]:
        """Return the ids of the jobs whose objects are all older than `age_s` seconds."""
        prefix, limit = object_paths.jobs(tenant), time.time() - age_s
        last_written: dict[str, float] = {}
        for entry in await self._objects.list(prefix):
            job_id = entry.path.removeprefix(prefix).partition("/")[0]
            last_written[job_id] = max(entry.modified, last_written.get(job_id, 0.0))
        return {job_id for job_id, at in last_written.items() if at < limit}


class PublishedResults:
    """`PublishedResults` reads the published results of one job. published: its published chunks, in order."""

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
        """Yield the lines, without the first `after`."""
        begin = 0
        for number, chunk in enumerate(self._published):
            if chunk.lines > after:
                lines = await self._results.get_chunk(self._tenant, self._job_id, number, chunk.revision)
                for line in lines[max(0, after - begin) :]:
                    yield line
            begin = chunk.lines

    async def read_state(self, chunk: int) -> bytes | None:
        """Return what the chunk left for those after it."""
        revision = self._published[chunk].revision
        return await self._results.get_state(self._tenant, self._job_id, chunk, revision)

    async def delete_state(self, chunk: int) -> None:
        revision = self._published[chunk].revision
        await self._results.delete_state(self._tenant, self._job_id, chunk, revision)


def request_path(tenant: str, job_id: str, request_name: str) -> str:
    return f"{object_paths.job(tenant, job_id)}requests/{request_name}.json"


def chunk_path(tenant: str, job_id: str, chunk: int, revision: int) -> str:
    """Return the path of a chunk's objects, without their suffix."""
    return f"{object_paths.job(tenant, job_id)}chunks/{revision:04d}/{chunk:06d}"
