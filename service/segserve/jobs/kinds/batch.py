"""Many images, one operation each."""

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

IMAGES_PER_CHUNK = 32  # images: at most so many are done again after a crash
INTERNAL_ERROR = JobError("internal", "See the log.")

log = structlog.get_logger(__name__)


class BatchRequest(BaseModel):
    """What a batch job was asked, as it is kept. options: of the operation. prompts: of each image, by its id or
    name."""

    model_config = ConfigDict(extra="forbid")

    operation: str
    model: str
    source: BatchSource
    options: dict[str, Any]
    prompts: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class BatchItem:
    """One image's part of a batch."""

    tenant: str
    image_id: str
    model: str
    options: Mapping[str, Any]
    prompts: Sequence[Mapping[str, Any]]


# The operation's result as JSON. Raises an error of the tree; all but Unavailable are the image's own.
BatchOperation = Callable[[BatchItem], Awaitable[Mapping[str, Any]]]


class BatchRunner:
    """operations: by name. at_once: images worked on together, so that one is read while another is encoded."""

    def __init__(self, operations: Mapping[str, BatchOperation], sources: BatchSources, at_once: int) -> None:
        self._operations, self._sources, self._at_once = operations, sources, at_once

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> "OpenBatchJob":
        asked = BatchRequest.model_validate_json(request)
        images = await self._sources.open(job.tenant, asked.source)
        return OpenBatchJob(job, asked, images, self._operations[asked.operation], self._at_once)


class OpenBatchJob:
    def __init__(
        self, job: Job, asked: BatchRequest, images: BatchImages, operation: BatchOperation, at_once: int
    ) -> None:
        self._job, self._asked, self._images, self._operation = job, asked, images, operation
        self._places = asyncio.Semaphore(at_once)
        self.total = images.count

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        indices = range(number * IMAGES_PER_CHUNK, min(self.total, (number + 1) * IMAGES_PER_CHUNK))
        if not indices:
            return None
        tasks = [asyncio.create_task(self._one(index, stop)) for index in indices]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            await cancel_and_wait(tasks)
        return Chunk([orjson.dumps(line) for line in found], sum("error" in line for line in found))

    async def _one(self, index: int, stop: StopSignal) -> dict[str, Any]:
        """A line of the results. Raises Unavailable: then it is not the image's fault."""
        name = self._images.get_name(index)
        line: dict[str, Any] = {"index": index, "image_id": None} | ({} if name is None else {"name": name})
        async with self._places:
            stop.raise_if_set()
            try:
                line["image_id"] = image_id = await self._images.store_image(index)
                item = self._item(image_id, name)
                return {**line, **await retry_while_busy(lambda: self._operation(item), stop)}
            except (Unavailable, JobStopped):
                raise
            except SegserveError as error:
                return {**line, "error": JobError.from_error(error).to_problem()}
            except Exception:
                log.exception("an image met an error of ours", job_id=self._job.job_id, image=line)
                return {**line, "error": INTERNAL_ERROR.to_problem()}

    def _item(self, image_id: str, name: str | None) -> BatchItem:
        asked = self._asked
        prompts = asked.prompts.get(image_id) or asked.prompts.get(name or "", [])
        return BatchItem(self._job.tenant, image_id, asked.model, asked.options, prompts)

    async def close(self) -> None:
        await self._images.close()
