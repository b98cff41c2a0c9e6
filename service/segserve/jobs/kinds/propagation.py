"""Jobs that propagate prompted objects through a video or a volume, slice by slice.

    request -> plan: visits to slices, in order -> engine, visit by visit -> one result line for each visit

A chunk's state is what the engine remembers after it. So the next chunk can begin there: in another worker, or after
somebody added prompts. Visits that the new plan has in common with the old one need not be made again.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from segserve.files.file_library import FileLibrary
from segserve.files.slice_reader import SliceReader
from segserve.jobs.engine.job import Job
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.object_ends import end_to_json
from segserve.jobs.engine.result_store import PublishedResults
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.jobs.kinds.job_requests import EngineName, PropagationRequest
from segserve.jobs.kinds.propagation_plan import CHUNKS_PER_KEPT_STATE, VISITS_PER_CHUNK, Visit, plan_visits
from segserve.jobs.kinds.result_lines import mask_to_json
from segserve.types import Crop, LossReason, ObjectEnd


@dataclass(frozen=True)
class ObjectOnSlice:
    """An object on a slice. score: 0 to 1, the quality of the mask that the model predicts (IoU)."""

    mask: Crop
    score: float


@dataclass(frozen=True)
class VisitResult:
    """What an engine found on a slice.

    objects: by object id.
    ends: the objects that are given up from here on.
    missing: why objects that are looked for are not there, by object id.
    """

    objects: Mapping[int, ObjectOnSlice]
    ends: Sequence[ObjectEnd] = ()
    missing: Mapping[int, LossReason] = field(default_factory=dict)


class EngineRun(Protocol):
    """`EngineRun` is an engine at work on one job."""

    async def visit(self, visit: Any, ahead: Sequence[Any], stop: StopSignal) -> VisitResult:
        """Return what is on a slice.

        ahead: the next visits of the chunk.

        Raises JobStopped.
        """
        ...

    def dump(self) -> bytes:
        """Return everything that the engine remembers."""
        ...

    def load(self, dumped: bytes) -> None: ...

    async def close(self) -> None: ...


class PropagationEngine(Protocol):
    async def open(self, job: Job, request: PropagationRequest, slices: SliceReader) -> EngineRun:
        """Raises BadInput, MissingDependency, and every error of loading a model."""
        ...


class PropagationRunner:
    """`PropagationRunner` opens propagation jobs. engines: by name."""

    def __init__(self, files: FileLibrary, engines: Mapping[EngineName, PropagationEngine]) -> None:
        self._files, self._engines = files, engines

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> "OpenPropagationJob":
        params = await asyncio.to_thread(PropagationRequest.model_validate_json, request)
        engine = self._engines[params.engine]
        slices = await SliceReader.open(self._files, job.tenant, params.view)
        try:
            engine_run = await engine.open(job, params, slices)
        except BaseException:
            await slices.close()
            raise
        visits = await asyncio.to_thread(plan_visits, params, slices.count)
        return OpenPropagationJob(job, visits, engine_run, slices, past, CHUNKS_PER_KEPT_STATE[params.engine])


class OpenPropagationJob:
    """`OpenPropagationJob` makes the chunks of a job. chunks_per_kept_state: see `CHUNKS_PER_KEPT_STATE`."""

    def __init__(
        self,
        job: Job,
        visits: Sequence[Visit],
        engine_run: EngineRun,
        slices: SliceReader,
        past: PublishedResults,
        chunks_per_kept_state: int,
    ) -> None:
        self._visits, self._engine_run, self._slices, self._past = visits, engine_run, slices, past
        self._chunks_per_kept_state = chunks_per_kept_state
        self._index_name = job.kind.index_name
        self._next = 0  # the chunk that the engine is ready for
        self.total = len(visits)

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        begin, end = number * VISITS_PER_CHUNK, min(self.total, (number + 1) * VISITS_PER_CHUNK)
        if begin >= end:
            return None
        if number != self._next:
            state = await self._past.read_state(number - 1)
            if state is None:
                raise RuntimeError(f"the state after chunk {number - 1} is missing")
            await asyncio.to_thread(self._engine_run.load, state)
        self._next = -1  # if a visit fails, the engine is ready for no chunk
        lines, ends = list[bytes](), list[ObjectEnd]()
        for position in range(begin, end):
            stop.raise_if_set()
            visit = self._visits[position]
            result = await self._engine_run.visit(visit, self._visits[position + 1 : end], stop)
            lines.append(self._encode_line(visit.slice, result))
            ends += result.ends
        self._next = number + 1
        state = await asyncio.to_thread(self._engine_run.dump)
        supersedes = number % self._chunks_per_kept_state != 0
        return Chunk(lines, state=state, supersedes=supersedes, ends=ends)

    def _encode_line(self, index: int, result: VisitResult) -> bytes:
        size = self._slices.size
        items = [
            {"object_id": object_id, **mask_to_json(item.mask), "score": round(item.score, 6)}
            for object_id, item in sorted(result.objects.items())
        ]
        line = {self._index_name: index, "width": size.width, "height": size.height, "objects": items}
        if result.missing:
            line["missing"] = [
                {"object_id": object_id, "reason": reason}
                for object_id, reason in sorted(result.missing.items())
            ]
        if result.ends:
            line["ends"] = [end_to_json(end, self._index_name) for end in result.ends]
        return orjson.dumps(line)

    async def close(self) -> None:
        await self._engine_run.close()
        await self._slices.close()
