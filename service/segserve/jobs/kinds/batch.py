"""Batch jobs: one operation (embed, segment, automatic, similar, semantic, instances) on many images."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ConfigDict

from segserve.cancellation import cancel_and_wait
from segserve.errors import SegserveError, Unavailable
from segserve.jobs.engine.job import Job, JobError
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.result_store import PublishedResults
from segserve.jobs.engine.retry_policy import retry_while_busy
from segserve.jobs.engine.stop_signal import JobStopped, StopSignal
from segserve.jobs.kinds.batch_images import BatchImages, BatchSource, BatchSources

# Images of one chunk: at most this many are processed again after a crash.
IMAGES_PER_CHUNK = 32

INTERNAL_ERROR = JobError("internal", "See the log.")

log = structlog.get_logger(__name__)


class BatchRequest(BaseModel):
    """The stored request of a batch job.

    options: of the operation, as its route takes them.
    prompts: the prompts of each image, by the image's id or name.
    """

    model_config = ConfigDict(extra="forbid")

    operation: str
    model: str
    source: BatchSource
    options: dict[str, Any]
    prompts: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class BatchItem:
    """The input of an operation for one image."""

    tenant: str
    image_id: str
    model: str
    options: Mapping[str, Any]
    prompts: Sequence[Mapping[str, Any]]


# Returns the result for an image, as JSON. Raises SegserveError; Unavailable interrupts the job, and every other error
# is reported in the image's line.
BatchOperation = Callable[[BatchItem], Awaitable[Mapping[str, Any]]]


class BatchRunner:
    """`BatchRunner` opens batch jobs.

    operations: by name.
    max_concurrent: images processed at the same time, so that one is read while another is encoded.
    """

    def __init__(
        self, operations: Mapping[str, BatchOperation], sources: BatchSources, max_concurrent: int
    ) -> None:
        self._operations, self._sources, self._max_concurrent = operations, sources, max_concurrent

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> "OpenBatchJob":
        params = await asyncio.to_thread(BatchRequest.model_validate_json, request)
        images = await self._sources.open(job.tenant, params.source)
        return OpenBatchJob(job, params, images, self._operations[params.operation], self._max_concurrent)


class OpenBatchJob:
    def __init__(
        self,
        job: Job,
        request: BatchRequest,
        images: BatchImages,
        operation: BatchOperation,
        max_concurrent: int,
    ) -> None:
        self._job, self._request, self._images, self._operation = job, request, images, operation
        self._semaphore = asyncio.Semaphore(max_concurrent)
        self.total = images.count

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        indices = range(number * IMAGES_PER_CHUNK, min(self.total, (number + 1) * IMAGES_PER_CHUNK))
        if not indices:
            return None
        tasks = [asyncio.create_task(self._process(index, stop)) for index in indices]
        try:
            lines = await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(tasks)
        return Chunk([orjson.dumps(line) for line in lines], sum("error" in line for line in lines))

    async def _process(self, index: int, stop: StopSignal) -> dict[str, Any]:
        """Return the result line of an image. Raises JobStopped, and Unavailable, which is not the image's fault."""
        name = self._images.get_name(index)
        line: dict[str, Any] = {"index": index, "image_id": None} | ({} if name is None else {"name": name})
        async with self._semaphore:
            stop.raise_if_set()
            try:
                image_id = await retry_while_busy(lambda: self._images.store_image(index), stop)
                line["image_id"] = image_id
                item = self._make_item(image_id, name)
                return {**line, **await retry_while_busy(lambda: self._operation(item), stop)}
            except (Unavailable, JobStopped):
                raise
            except SegserveError as error:
                return {**line, "error": JobError.from_error(error).to_problem()}
            except Exception:
                log.exception("an image failed with an internal error", job_id=self._job.job_id, image=line)
                return {**line, "error": INTERNAL_ERROR.to_problem()}

    def _make_item(self, image_id: str, name: str | None) -> BatchItem:
        request = self._request
        prompts = request.prompts.get(image_id) or request.prompts.get(name or "", [])
        return BatchItem(self._job.tenant, image_id, request.model, request.options, prompts)

    async def close(self) -> None:
        await self._images.close()
