"""Objects through a video or a volume, slice by slice.

    request -> visits, in order -> engine, which remembers -> a line of results a visit

A chunk's state is what the engine remembers after it, so that the next one can begin there, in another worker, or
after somebody asked for more: what is planned as before stays as it is.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from segserve.files.file_library import FileLibrary
from segserve.files.slice_reader import SliceReader
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.engine.job_kind_runner import Chunk
from segserve.jobs.engine.result_store import PublishedResults
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.jobs.kinds.job_requests import EngineName, PropagationRequest
from segserve.jobs.kinds.propagation_plan import CHUNKS_PER_KEPT_STATE, VISITS_PER_CHUNK, Visit, plan_visits
from segserve.jobs.kinds.result_lines import mask_to_json
from segserve.types import Crop


@dataclass(frozen=True)
class ObjectOnSlice:
    """An object on a slice. score: 0 to 1, how good the model expects the mask to be."""

    mask: Crop
    score: float


class EngineRun(Protocol):
    """An engine at work on one job."""

    async def visit(self, visit: Any, ahead: Sequence[Any], stop: StopSignal) -> Mapping[int, ObjectOnSlice]:
        """What is there, by object. ahead: what will be asked next. Raises Stopped."""
        ...

    def dump(self) -> bytes:
        """All that it remembers."""
        ...

    def load(self, dumped: bytes) -> None: ...

    async def close(self) -> None: ...


class PropagationEngine(Protocol):
    async def open(self, job: Job, request: PropagationRequest, reading: SliceReader) -> EngineRun:
        """Raises BadInput, MissingDependency and what goes wrong with models."""
        ...


class PropagationRunner:
    """engines: by name."""

    def __init__(self, files: FileLibrary, engines: Mapping[EngineName, PropagationEngine]) -> None:
        self._files, self._engines = files, engines

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> "OpenPropagationJob":
        asked = PropagationRequest.model_validate_json(request)
        kind = self._engines[asked.engine]
        reading = await SliceReader.open(self._files, job.tenant, asked.view)
        try:
            engine = await kind.open(job, asked, reading)
        except BaseException:
            await reading.close()
            raise
        visits = await asyncio.to_thread(plan_visits, asked, reading.count)
        return OpenPropagationJob(job, visits, engine, reading, past, CHUNKS_PER_KEPT_STATE[asked.engine])


class OpenPropagationJob:
    def __init__(
        self,
        job: Job,
        visits: Sequence[Visit],
        engine: EngineRun,
        reading: SliceReader,
        past: PublishedResults,
        kept_states: int,
    ) -> None:
        self._visits, self._engine, self._reading, self._past = visits, engine, reading, past
        self._kept_states = kept_states
        self._word = "slice" if job.kind is JobKind.VOLUME else "frame"
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
            await asyncio.to_thread(self._engine.load, state)
        self._next = -1
        lines = []
        for index in range(begin, end):
            stop.raise_if_set()
            visit = self._visits[index]
            found = await self._engine.visit(visit, self._visits[index + 1 : end], stop)
            lines.append(self._line(visit.slice, found))
        self._next = number + 1
        state = await asyncio.to_thread(self._engine.dump)
        return Chunk(lines, state=state, supersedes=number % self._kept_states != 0)

    def _line(self, at: int, found: Mapping[int, ObjectOnSlice]) -> bytes:
        size = self._reading.size
        objects = [
            {"object_id": name, **mask_to_json(each.mask), "score": round(each.score, 6)}
            for name, each in sorted(found.items())
        ]
        return orjson.dumps({self._word: at, "width": size.width, "height": size.height, "objects": objects})

    async def close(self) -> None:
        await self._engine.close()
        await self._reading.close()
