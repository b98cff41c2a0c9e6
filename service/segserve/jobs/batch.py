"""Many images, one operation each."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ConfigDict

from segserve.errors import SegserveError, Unavailable
from segserve.jobs.job import Job
from segserve.jobs.work import Chunk, Stop, Stopped

CHUNK = 16  # images: at most so many are done again after a crash

log = structlog.get_logger(__name__)


class BatchRequest(BaseModel):
    """What a batch job was asked, as it is kept. names: what its owner calls the images, one each, or none. options: of
    the operation. prompts: of each image, by its id."""

    model_config = ConfigDict(extra="forbid")

    operation: str
    model: str
    image_ids: list[str]
    names: list[str] = []
    options: dict[str, Any]
    prompts: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Item:
    """One image's part of a batch."""

    tenant: str
    image_id: str
    model: str
    options: Mapping[str, Any]
    prompts: Sequence[Mapping[str, Any]]


# The operation's result as JSON. Raises an error of the tree; all but Unavailable are the image's own.
Operation = Callable[[Item], Awaitable[Mapping[str, Any]]]


class Batch:
    """operations: by name. at_once: images worked on together, so that one is read while another is encoded."""

    def __init__(self, operations: Mapping[str, Operation], at_once: int) -> None:
        self._operations, self._at_once = operations, at_once

    async def open(self, job: Job, request: bytes) -> "OpenedBatch":
        asked = BatchRequest.model_validate_json(request)
        return OpenedBatch(job, asked, self._operations[asked.operation], self._at_once)


class OpenedBatch:
    def __init__(self, job: Job, asked: BatchRequest, operation: Operation, at_once: int) -> None:
        self._job, self._asked, self._operation = job, asked, operation
        self._places = asyncio.Semaphore(at_once)
        self.total = len(asked.image_ids)

    async def chunk(self, number: int, stop: Stop) -> Chunk | None:
        first = number * CHUNK
        ids = self._asked.image_ids[first : first + CHUNK]
        if not ids:
            return None
        tasks = [asyncio.create_task(self._one(first + i, image_id, stop)) for i, image_id in enumerate(ids)]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return Chunk([orjson.dumps(line) for line in found], sum("error" in line for line in found))

    async def _one(self, index: int, image_id: str, stop: Stop) -> dict[str, Any]:
        """A line of the results. Raises Unavailable: then it is not the image's fault."""
        item = Item(
            self._job.tenant,
            image_id,
            self._asked.model,
            self._asked.options,
            self._asked.prompts.get(image_id, []),
        )
        named = {"name": self._asked.names[index]} if self._asked.names else {}
        line: dict[str, Any] = {"index": index, "image_id": image_id, **named}
        async with self._places:
            stop.check()
            try:
                return {**line, **await self._operation(item)}
            except (Unavailable, Stopped):
                raise
            except SegserveError as error:
                return {**line, "error": fault(error)}
            except Exception:
                log.exception("an image met an error of ours", job_id=self._job.job_id, image_id=image_id)
                return {**line, "error": {"type": "urn:segserve:problem:internal", "detail": "See the log."}}

    async def close(self) -> None: ...


def fault(error: SegserveError) -> dict[str, Any]:
    """As a problem document of the REST API says it."""
    told = {
        "type": f"urn:segserve:problem:{error.code}",
        "detail": error.message,
        "field": error.field,
        "remedy": error.remedy,
    }
    return {name: value for name, value in told.items() if value}
