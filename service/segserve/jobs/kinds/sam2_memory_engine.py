"""The propagation engine for SAM 2, which remembers the objects of a video (`segserve.sam2_memory`).

Its first job loads torch.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import orjson

from segserve.errors import MissingDependency, OutOfMemory
from segserve.files.slice_reader import SliceReader
from segserve.jobs.engine.job import Job
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.jobs.kinds.job_requests import PropagationRequest, check_same_model
from segserve.jobs.kinds.presence_log import PresenceLog
from segserve.jobs.kinds.projection_engine import ReadPrompt
from segserve.jobs.kinds.propagation import ObjectOnSlice, VisitResult
from segserve.jobs.kinds.propagation_plan import MemoryVisit
from segserve.models.bundle import Bundle
from segserve.models.registry import ModelRegistry
from segserve.types import Device, LossReason, ObjectEnd, SegmentedObject

if TYPE_CHECKING:
    from segserve.sam2_memory.network_steps import Sam2VideoNetwork


class Sam2MemoryEngine:
    """`Sam2MemoryEngine` opens propagation jobs for SAM 2. threads: torch's, on a CPU."""

    def __init__(
        self, registry: ModelRegistry, read_prompt: ReadPrompt, device: Device, threads: int
    ) -> None:
        self._registry, self._read_prompt = registry, read_prompt
        self._device, self._threads = device, threads
        # One thread for all jobs: torch keeps a pool of threads for each thread that calls it.
        self._executor = ThreadPoolExecutor(1, "memory")
        self._loaded: tuple[tuple[str, int | None], Sam2VideoNetwork] | None = None

    async def open(self, job: Job, request: PropagationRequest, slices: SliceReader) -> "Sam2MemoryRun":
        bundle = await asyncio.to_thread(self._registry.bundle, request.model)
        check_same_model(bundle, request)
        loop = asyncio.get_running_loop()
        network = await loop.run_in_executor(self._executor, self._load, bundle, request.image_size)
        return Sam2MemoryRun(network, request, slices, self._read_prompt, self._executor)

    def _load(self, bundle: Bundle, image_size: int | None) -> "Sam2VideoNetwork":
        """Return the network of a bundle. The last network stays loaded for the next job."""
        key = (bundle.digest, image_size)
        if self._loaded is None or self._loaded[0] != key:
            try:
                from segserve.sam2_memory.network_steps import Sam2VideoNetwork
            except ImportError as error:
                raise MissingDependency(str(error.name), "models", "Following objects by memory") from None
            self._loaded = None  # freed first: two networks may not fit into memory
            network = Sam2VideoNetwork.load(
                bundle, device=self._device, threads=self._threads, image_size=image_size
            )
            self._loaded = key, network
        return self._loaded[1]


def find_loss(item: SegmentedObject) -> LossReason | None:
    """Return why an object is not on a frame; None where it is. SAM 2's score is 0 where it predicts no object."""
    if item.crop.pixels.size:
        return None
    return LossReason.EMPTY if item.score else LossReason.ABSENT


@contextmanager
def convert_out_of_memory() -> Iterator[None]:
    """Raise OutOfMemory where torch raises its own OutOfMemoryError.

    The error is known by its name, because this module must not import torch.
    """
    try:
        yield
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise OutOfMemory from error
        raise


class Sam2MemoryRun:
    """`Sam2MemoryRun` is the engine at work on one job."""

    def __init__(
        self,
        network: "Sam2VideoNetwork",
        request: PropagationRequest,
        slices: SliceReader,
        read_prompt: ReadPrompt,
        executor: ThreadPoolExecutor,
    ) -> None:
        from segserve.sam2_memory.session import Sam2Session

        self._network, self._request, self._slices = network, request, slices
        self._read_prompt, self._executor = read_prompt, executor
        self._session: Sam2Session = Sam2Session(network, slices.size, slices.count, raw=request.raw)
        self._presence, self._reverse = PresenceLog(request.max_gap), False

    async def visit(self, visit: MemoryVisit, ahead: Sequence[MemoryVisit], stop: StopSignal) -> VisitResult:
        """Track all objects on a slice.

        Prompts of the submission are added before anything is tracked. A prompt that was added later corrects the mask
        that tracking found on its slice.
        """
        for object_id, index, revision in visit.prompts:
            if not revision:
                stop.raise_if_set()
                await self._add_prompts(object_id, index, revision)
        stop.raise_if_set()
        rgb = await self._slices.read(visit.slice)
        loop = asyncio.get_running_loop()
        with convert_out_of_memory():
            objects = await loop.run_in_executor(
                self._executor, lambda: self._session.track(visit.slice, rgb, reverse=visit.reverse)
            )
        for object_id, index, revision in visit.prompts:
            if revision:
                objects[object_id] = await self._add_prompts(object_id, index, revision)
        found = {
            object_id: ObjectOnSlice(item.crop, item.score or 0.0)
            for object_id, item in objects.items()
            if item.crop.pixels.size
        }
        missing, ends = self._note_presence(visit, objects)
        return VisitResult(found, ends, missing)

    def _note_presence(
        self, visit: MemoryVisit, objects: Mapping[int, SegmentedObject]
    ) -> tuple[dict[int, LossReason], list[ObjectEnd]]:
        """Return which objects are missing, and the losses that are told now."""
        if visit.reverse and not self._reverse:
            self._presence.turn()
        self._reverse = visit.reverse
        reasons = {object_id: find_loss(item) for object_id, item in objects.items()}
        last = 0 if visit.reverse else self._slices.count - 1
        return self._presence.note(visit.slice, reasons, is_last=visit.slice == last)

    async def _add_prompts(self, object_id: int, index: int, revision: int) -> SegmentedObject:
        """Add all prompts of a revision for an object on a slice, and return the object there."""
        rgb = await self._slices.read(index)
        loop, select = asyncio.get_running_loop(), self._request.select
        prompts = [
            self._read_prompt(item.prompt, self._slices.size)
            for item in self._request.get_prompts(object_id, index)
            if item.revision == revision
        ]

        def add() -> SegmentedObject:
            masks = [self._session.add_prompt(index, rgb, object_id, prompt, select) for prompt in prompts]
            return masks[-1]

        with convert_out_of_memory():
            return await loop.run_in_executor(self._executor, add)

    def dump(self) -> bytes:
        from segserve.sam2_memory.session_state import dump_session

        header = orjson.dumps(self._reverse) + b" " + self._presence.dump()
        return header + b"\n" + dump_session(self._session)

    def load(self, dumped: bytes) -> None:
        from segserve.sam2_memory.session_state import load_session

        session = dumped
        if dumped.startswith((b"true ", b"false ")):  # otherwise it was stored before losses were told
            header, _, session = dumped.partition(b"\n")
            reverse, _, presence = header.partition(b" ")
            self._reverse = orjson.loads(reverse)
            self._presence.load(presence)
        self._session = load_session(self._network, session, raw=self._request.raw)

    async def close(self) -> None: ...
