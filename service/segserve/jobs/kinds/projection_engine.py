"""The propagation engine for models of single images: a mask prompts the next slice (`segserve.projection`)."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segserve.cancellation import cancel_and_wait
from segserve.encode.frame_embeddings import FrameEmbeddings
from segserve.encode.prepared_cache import PreparedImage
from segserve.files.slice_reader import SliceReader
from segserve.jobs.engine.job import Job
from segserve.jobs.engine.retry_policy import retry_while_busy
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.jobs.kinds.job_requests import PropagationRequest, check_same_model
from segserve.jobs.kinds.propagation import ObjectOnSlice, VisitResult
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.projection.follow_motion import MotionPropagator
from segserve.projection.propagate import MaskPropagator, PropagationOptions
from segserve.projection.slice_order import ProjectionVisit
from segserve.timing import Timings
from segserve.types import Prompt, Size, UInt8

# (a stored prompt, as its route takes it; the size of the image) -> the prompt. Raises BadInput.
ReadPrompt = Callable[[Mapping[str, Any], Size], Prompt]


class ProjectionEngine:
    """`ProjectionEngine` opens propagation jobs for every promptable model.

    threads: run the decoding, which is short.
    max_concurrent: slices encoded at the same time.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        embeddings: FrameEmbeddings,
        threads: Executor,
        read_prompt: ReadPrompt,
        create_timings: Callable[[], Timings],
        max_concurrent: int,
    ) -> None:
        self._registry, self._embeddings, self._threads = registry, embeddings, threads
        self._read_prompt, self._create_timings = read_prompt, create_timings
        self._max_concurrent = max_concurrent

    async def open(self, job: Job, request: PropagationRequest, slices: SliceReader) -> "ProjectionRun":
        model = await self._registry.get(request.model, PromptableModel)
        check_same_model(model.bundle, request)
        options = PropagationOptions(
            request.projection,
            request.iou_threshold,
            request.min_score,
            request.box_extension,
            request.select,
            request.raw,
            request.min_contrast,
            request.min_likeness,
            request.max_move,
            request.min_step_likeness,
            request.max_overlap,
            request.max_gap,
        )
        propagator = (MotionPropagator if options.max_move > 0 else MaskPropagator)(
            model, slices.size, options
        )

        async def encode_slice(index: int) -> EncodedSlice:
            # Read in the order of the work, and only once: going back in a video is slow.
            pixels = await slices.read(index)

            async def get_pixels() -> UInt8:
                return pixels

            image = await self._embeddings.get_prepared(
                job.tenant,
                slices.slice_id(index),
                model,
                get_pixels,
                job.priority,
                self._create_timings(),
            )
            return EncodedSlice(pixels, image)

        def read_prompts(visit: ProjectionVisit) -> dict[int, Prompt]:
            return {
                object_id: merge_prompts([
                    self._read_prompt(item.prompt, slices.size)
                    for item in request.get_prompts(object_id, visit.slice)
                ])
                for object_id, _ in visit.annotated
            }  # fmt: skip

        return ProjectionRun(
            propagator,
            encode_slice,
            read_prompts,
            self._threads,
            self._create_timings,
            self._max_concurrent,
        )


def merge_prompts(prompts: list[Prompt]) -> Prompt:
    """Return one prompt for an object on a slice: all points, the latest box and the latest mask."""
    return Prompt(
        np.concatenate([prompt.points for prompt in prompts]),
        np.concatenate([prompt.labels for prompt in prompts]),
        next((prompt.box for prompt in reversed(prompts) if prompt.box is not None), None),
        mask=next((prompt.mask for prompt in reversed(prompts) if prompt.mask is not None), None),
    )


@dataclass(frozen=True)
class EncodedSlice:
    """A slice, RGB [H, W, 3], and its embedding."""

    pixels: UInt8
    image: PreparedImage


class ProjectionRun:
    """`ProjectionRun` is the engine at work on one job. While one slice is decoded, the next ones are encoded."""

    def __init__(
        self,
        propagator: MaskPropagator | MotionPropagator,
        encode_slice: Callable[[int], Coroutine[Any, Any, EncodedSlice]],
        read_prompts: Callable[[ProjectionVisit], dict[int, Prompt]],
        threads: Executor,
        create_timings: Callable[[], Timings],
        max_concurrent: int,
    ) -> None:
        self._propagator, self._encode_slice, self._read_prompts = propagator, encode_slice, read_prompts
        self._threads, self._create_timings = threads, create_timings
        self._max_concurrent = max_concurrent
        self._encoding: dict[int, asyncio.Task[EncodedSlice]] = {}

    async def visit(
        self, visit: ProjectionVisit, ahead: Sequence[ProjectionVisit], stop: StopSignal
    ) -> VisitResult:
        if not self._propagator.has_work(visit):
            return VisitResult({})
        for next_visit in [visit, *ahead][: self._max_concurrent]:
            if next_visit.slice not in self._encoding and self._propagator.has_work(next_visit):
                self._encoding[next_visit.slice] = asyncio.create_task(
                    retry_while_busy(partial(self._encode_slice, next_visit.slice), stop)
                )
        encoded = await self._encoding.pop(visit.slice)
        await self._cancel(set(self._encoding) - {next_visit.slice for next_visit in ahead})
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads,
            self._propagator.visit,
            encoded.pixels,
            encoded.image,
            visit,
            self._read_prompts(visit),
            self._create_timings(),
        )
        objects = {object_id: ObjectOnSlice(mask.crop, mask.score) for object_id, mask in found.masks.items()}
        return VisitResult(objects, found.ends, found.missing)

    def dump(self) -> bytes:
        return self._propagator.dump()

    def load(self, dumped: bytes) -> None:
        self._propagator.load(dumped)

    async def close(self) -> None:
        await self._cancel(set(self._encoding))

    async def _cancel(self, slices: set[int]) -> None:
        await cancel_and_wait([self._encoding.pop(index) for index in slices])
