"""The engine for SAM 2, which remembers the objects it has seen (`segserve.sam2_memory`). Its first job loads torch."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from segserve.errors import MissingDependency, OutOfMemory
from segserve.files.slice_reader import SliceReader
from segserve.jobs.engine.job import Job
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.jobs.kinds.job_requests import PropagationRequest, check_same_model
from segserve.jobs.kinds.projection_engine import ReadPrompt
from segserve.jobs.kinds.propagation import ObjectOnSlice
from segserve.jobs.kinds.propagation_plan import MemoryVisit
from segserve.models.bundle import Bundle
from segserve.models.registry import ModelRegistry
from segserve.types import Device, SegmentedObject

if TYPE_CHECKING:
    from segserve.sam2_memory.network_steps import Sam2VideoNetwork


class Sam2MemoryEngine:
    """threads: of torch, on a CPU."""

    def __init__(
        self, registry: ModelRegistry, read_prompt: ReadPrompt, device: Device, threads: int
    ) -> None:
        self._registry, self._read_prompt = registry, read_prompt
        self._device, self._threads = device, threads
        self._worker = ThreadPoolExecutor(1, "memory")  # torch keeps threads for each thread that calls it
        self._held: tuple[tuple[str, int | None], Sam2VideoNetwork] | None = None

    async def open(self, job: Job, request: PropagationRequest, reading: SliceReader) -> "Sam2MemoryRun":
        bundle = await asyncio.to_thread(self._registry.bundle, request.model)
        check_same_model(bundle, request)
        loop = asyncio.get_running_loop()
        tracker = await loop.run_in_executor(self._worker, self._load, bundle, request.image_size)
        return Sam2MemoryRun(tracker, request, reading, self._read_prompt, self._worker)

    def _load(self, bundle: Bundle, image_size: int | None) -> "Sam2VideoNetwork":
        """The last one is kept."""
        key = (bundle.digest, image_size)
        if self._held is None or self._held[0] != key:
            try:
                from segserve.sam2_memory.network_steps import Sam2VideoNetwork
            except ImportError as error:
                raise MissingDependency(str(error.name), "models", "Following objects by memory") from None
            self._held = None  # two may not fit
            tracker = Sam2VideoNetwork.load(
                bundle, device=self._device, threads=self._threads, image_size=image_size
            )
            self._held = key, tracker
        return self._held[1]


@contextmanager
def convert_out_of_memory() -> Iterator[None]:
    """Raises OutOfMemory where torch does, by its name: nothing here imports it."""
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise OutOfMemory from error
        raise


class Sam2MemoryRun:
    def __init__(
        self,
        tracker: "Sam2VideoNetwork",
        request: PropagationRequest,
        reading: SliceReader,
        read_prompt: ReadPrompt,
        worker: ThreadPoolExecutor,
    ) -> None:
        from segserve.sam2_memory.session import Sam2Session

        self._tracker, self._request, self._reading = tracker, request, reading
        self._read_prompt, self._worker = read_prompt, worker
        self._session: Sam2Session = Sam2Session(tracker, reading.size, reading.count)

    async def visit(
        self, visit: MemoryVisit, ahead: Sequence[MemoryVisit], stop: StopSignal
    ) -> Mapping[int, ObjectOnSlice]:
        """What was asked before the job began is taken to memory before anything is tracked; what came later corrects
        what was found on its frame."""
        for object_id, at, revision in visit.prompts:
            if not revision:
                stop.raise_if_set()
                await self._add(object_id, at, revision)
        stop.raise_if_set()
        rgb = await self._reading.read(visit.slice)
        loop = asyncio.get_running_loop()
        with convert_out_of_memory():
            found = await loop.run_in_executor(
                self._worker, lambda: self._session.track(visit.slice, rgb, reverse=visit.reverse)
            )
        for object_id, at, revision in visit.prompts:
            if revision:
                found[object_id] = await self._add(object_id, at, revision)
        return {
            object_id: ObjectOnSlice(each.crop, each.score or 0.0)
            for object_id, each in found.items()
            if each.crop.pixels.size
        }

    async def _add(self, object_id: int, at: int, revision: int) -> SegmentedObject:
        """The object there, after all prompts of that revision."""
        rgb = await self._reading.read(at)
        loop, select = asyncio.get_running_loop(), self._request.select
        prompts = [
            self._read_prompt(each.prompt, self._reading.size)
            for each in self._request.get_prompts(object_id, at)
            if each.revision == revision
        ]

        def add() -> SegmentedObject:
            return [self._session.add_prompt(at, rgb, object_id, prompt, select) for prompt in prompts][-1]

        with convert_out_of_memory():
            return await loop.run_in_executor(self._worker, add)

    def dump(self) -> bytes:
        from segserve.sam2_memory.session_state import dump_session

        return dump_session(self._session)

    def load(self, dumped: bytes) -> None:
        from segserve.sam2_memory.session_state import load_session

        self._session = load_session(self._tracker, dumped)

    async def close(self) -> None: ...
