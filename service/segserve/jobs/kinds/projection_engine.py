"""The engine for models that know single images: the mask of one slice prompts the next (`segserve.projection`)."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
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
from segserve.jobs.kinds.propagation import ObjectOnSlice
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.projection.propagate import MaskPropagator, PropagationOptions
from segserve.projection.slice_order import ProjectionVisit
from segserve.timing import Timings
from segserve.types import Prompt, Size

# A prompt as its route takes it, on an image of that size. Raises BadInput.
ReadPrompt = Callable[[Mapping[str, Any], Size], Prompt]


class ProjectionEngine:
    """workers: run short work. at_once: slices encoded together."""

    def __init__(
        self,
        registry: ModelRegistry,
        embeddings: FrameEmbeddings,
        workers: Executor,
        read_prompt: ReadPrompt,
        timings: Callable[[], Timings],
        at_once: int,
    ) -> None:
        self._registry, self._embeddings, self._workers = registry, embeddings, workers
        self._read_prompt, self._timings, self._at_once = read_prompt, timings, at_once

    async def open(self, job: Job, request: PropagationRequest, reading: SliceReader) -> "ProjectionRun":
        model = await self._registry.get(request.model, PromptableModel)
        check_same_model(model.bundle, request)
        options = PropagationOptions(
            request.projection,
            request.iou_threshold,
            request.min_score,
            request.box_extension,
            request.select,
        )
        follower = MaskPropagator(model, reading.size, options)

        async def prepared(at: int) -> PreparedImage:
            return await self._embeddings.get_prepared(
                job.tenant,
                reading.slice_id(at),
                model,
                lambda: reading.read(at),
                job.priority,
                self._timings(),
            )

        def prompts(visit: ProjectionVisit) -> dict[int, Prompt]:
            return {
                name: merge_prompts(
                    [
                        self._read_prompt(each.prompt, reading.size)
                        for each in request.get_prompts(name, visit.slice)
                    ]
                )
                for name, _ in visit.annotated
            }

        return ProjectionRun(follower, prepared, prompts, self._workers, self._timings, self._at_once)


def merge_prompts(prompts: list[Prompt]) -> Prompt:
    """All that was said of an object on a slice: every point, the latest box and the latest mask."""
    return Prompt(
        np.concatenate([each.points for each in prompts]),
        np.concatenate([each.labels for each in prompts]),
        next((each.box for each in reversed(prompts) if each.box is not None), None),
        mask=next((each.mask for each in reversed(prompts) if each.mask is not None), None),
    )


class ProjectionRun:
    def __init__(
        self,
        follower: MaskPropagator,
        prepared: Callable[[int], Coroutine[Any, Any, PreparedImage]],
        prompts: Callable[[ProjectionVisit], dict[int, Prompt]],
        workers: Executor,
        timings: Callable[[], Timings],
        at_once: int,
    ) -> None:
        self._follower, self._prepared, self._prompts = follower, prepared, prompts
        self._workers, self._timings, self._at_once = workers, timings, at_once
        self._coming: dict[int, asyncio.Task[PreparedImage]] = {}

    async def visit(
        self, visit: ProjectionVisit, ahead: Sequence[ProjectionVisit], stop: StopSignal
    ) -> Mapping[int, ObjectOnSlice]:
        if not self._follower.has_work(visit):
            return {}
        for next_ in [visit, *ahead][: self._at_once]:
            if next_.slice not in self._coming and self._follower.has_work(next_):
                self._coming[next_.slice] = asyncio.create_task(
                    retry_while_busy(partial(self._prepared, next_.slice), stop)
                )
        image = await self._coming.pop(visit.slice)
        await self._drop(set(self._coming) - {each.slice for each in ahead})
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._workers, self._follower.visit, image, visit, self._prompts(visit), self._timings()
        )
        return {name: ObjectOnSlice(each.crop, each.score) for name, each in found.items()}

    def dump(self) -> bytes:
        return self._follower.dump()

    def load(self, dumped: bytes) -> None:
        self._follower.load(dumped)

    async def close(self) -> None:
        await self._drop(set(self._coming))

    async def _drop(self, slices: set[int]) -> None:
        await cancel_and_wait([self._coming.pop(each) for each in slices])
