"""The object that is clicked on: on one slice, or followed through all slices by a job."""

import asyncio
from typing import Any

import numpy as np
import orjson

from segserve.app import Service
from segserve.decode.segmenter import SegmentResult
from segserve.errors import ImageNotFound
from segserve.identity.identity import current_tenant
from segserve.rendering.label_volume import fill_volume
from segserve.rendering.result_index import ResultIndex
from segserve.types import Crop, FileKind, UInt8, UInt16
from segserve.wire.frontends.monai.models import Task
from segserve.wire.frontends.monai.params import (
    InferIn,
    choose_slice,
    cut_region,
    prompt_on_slice,
    prompts_in_volume,
)
from segserve.wire.frontends.monai.results import Labels
from segserve.wire.frontends.monai.volumes import Volume, Volumes
from segserve.wire.operations import segment
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.run_job import run_job
from segserve.wire.results.frames import index_lines
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.segment import SegmentIn

Json = dict[str, Any]

OBJECT_ID = 1


def name_label(params: InferIn, service: Service) -> dict[str, int]:
    """Return the name of the label that is clicked, with its value in the answer."""
    return {params.label or service.settings.monai_labels[0]: OBJECT_ID}


async def click_on_slice(
    service: Service, volumes: Volumes, task: Task, volume: Volume, params: InferIn
) -> Labels:
    """Return the object on one slice. Raises BadInput, and what `segment` raises."""
    params = cut_region(params, volume.geometry.size)
    k = choose_slice(params, volume.slices)
    prompt = prompt_on_slice(params, k)

    async def answer() -> SegmentResult[Crop]:
        image_id = await volumes.get_slice(volume, k, params.window)
        body = {"image_id": image_id, "model": task.bundle.name, "prompts": [prompt]}
        request = validate_body(SegmentIn, orjson.dumps(body))
        return await segment.segment(
            service, request, lambda candidate: candidate.crop, service.new_timings()
        )

    try:
        result = await answer()
    except ImageNotFound:
        if not volumes.forget_slice(volume, k, params.window):
            raise
        result = await answer()  # its image was deleted: it is stored again
    mask = result.results[0][0]
    values = await asyncio.to_thread(draw_click, volume, k, mask.rendered)
    details = {"slice": k, "score": mask.candidate.score, "hints": list(result.hints)}
    return Labels(values, name_label(params, service), details, task.bundle.name)


def draw_click(volume: Volume, k: int, crop: Crop) -> UInt8:
    """Return labels [slices, rows, columns] with the object on slice k. Blocks."""
    values = np.zeros(volume.shape, np.uint8)
    height, width = crop.pixels.shape
    values[k, crop.y : crop.y + height, crop.x : crop.x + width] = crop.pixels
    return values


async def click_in_volume(
    service: Service, volumes: Volumes, task: Task, volume: Volume, params: InferIn
) -> Labels:
    """Return the object on all slices. Raises BadInput, Unavailable, and what `submit_job` raises.

    A region of interest bounds the answer too.
    """
    if volume.file is None or volume.slices == 1:
        return await click_on_slice(service, volumes, task, volume, params)
    params = cut_region(params, volume.geometry.size)
    prompts = prompts_in_volume(params, volume.slices)
    # With the window every slice is another picture.
    window = {"window": params.window} if params.window and volume.file.kind is FileKind.VOLUME else {}
    body = {
        "kind": "volume" if volume.file.kind is FileKind.VOLUME else "video",
        "model": task.bundle.name,
        "priority": "interactive",
        "input": {"file_id": volume.file.file_id},
        "params": {**window, "objects": [{"object_id": OBJECT_ID, "prompts": prompts}]},
    }
    values, details = await follow(service, body, volume)
    if params.region is not None and params.region.slices is not None:
        await asyncio.to_thread(clear_outside, values, *params.region.slices)
    return Labels(values, name_label(params, service), details, task.bundle.name)


def clear_outside(values: UInt16, first: int, last: int) -> None:
    """Clear the slices before `first` and behind `last`. Blocks."""
    values[: max(first, 0)] = 0
    values[max(last + 1, 0) :] = 0


async def follow(service: Service, body: Json, volume: Volume) -> tuple[UInt16, Json]:
    """Run a job on the slices of a volume, and return its label volume with details. Raises what `run_job` raises."""
    job = await run_job(service, validate_body(JobIn, orjson.dumps(body)))
    lines = ResultIndex()
    try:
        await index_lines(lines, await service.jobs.queue.read_results(current_tenant(), job.job_id))
        values = await asyncio.to_thread(build_volume, lines, volume)
    finally:
        lines.close()
    return values, {"job_id": job.job_id}


def build_volume(lines: ResultIndex, volume: Volume) -> UInt16:
    """Return the label volume [slices, rows, columns]. Blocks."""
    values = np.zeros(volume.shape, np.uint16)
    for _ in fill_volume(values, lines, 0):
        pass
    return values
