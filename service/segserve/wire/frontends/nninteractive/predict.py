"""The mask of a volume for what a user has drawn: a job of the service follows the object through the slices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

import orjson

from segserve.app import Service
from segserve.errors import BadInput, SegserveError, Unavailable
from segserve.jobs.engine.job import Job, JobState
from segserve.jobs.kinds.job_requests import EngineName
from segserve.types import DEFAULT_TENANT
from segserve.wire.frontends.nninteractive.interactions import Interactions, SlicePrompt
from segserve.wire.frontends.nninteractive.lease import Lease
from segserve.wire.frontends.nninteractive.volume_mask import VolumeMask
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.jobs import submit_job
from segserve.wire.operations.propagation import choose_engine
from segserve.wire.schemas.jobs import JobIn

Json = dict[str, Any]

OBJECT_ID = 1
ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


async def predict(service: Service, lease: Lease, interactions: Interactions) -> VolumeMask:
    """Return the mask of the object. The job is cancelled where the caller is.

    Raises Unavailable where the job fails, and what `submit_job` raises.
    """
    engine = choose_engine(await service.registry.get_bundle(lease.model), None)
    body = await asyncio.to_thread(build_job, lease, interactions, engine)
    queue = service.jobs.queue
    # A task of its own: a client that leaves just now would leave a job behind that nobody knows.
    submitting = asyncio.create_task(submit_job(service, body, None))
    try:
        job = await asyncio.shield(submitting)
    except asyncio.CancelledError:
        service.run_in_background(cancel_submitted(service, submitting))
        raise
    try:
        async with aclosing(queue.follow(DEFAULT_TENANT, job.job_id)) as changes:  # type: ignore[type-var]
            async for change in changes:
                if change is not None:
                    job = change.job
                elif service.closing.is_set():
                    break
        if job.state is not JobState.SUCCEEDED:
            raise job_error(job)
        lines = await queue.read_results(DEFAULT_TENANT, job.job_id)
        return await collect_mask(lines, lease, interactions.axis)
    finally:
        if job.state not in ENDED:
            # In the background: where the client has left, nothing can be awaited here any more.
            service.run_in_background(cancel_job(service, job.job_id))


def build_job(lease: Lease, interactions: Interactions, engine: EngineName) -> JobIn:
    """Return the job that follows the object. Blocks. Raises BadInput."""
    volume = lease.get_volume()
    size = VolumeMask(volume.shape, interactions.axis).size
    prompts = [
        {"slice": index, **prompt_to_json(prompt, [size.height, size.width], engine)}
        for index, prompt in sorted(interactions.prompts.items())
    ]
    body = {
        "kind": "volume",
        "model": lease.model,
        "priority": "interactive",
        "input": {"file_id": volume.record.file_id},
        "params": {
            "axis": interactions.axis,
            "objects": [{"object_id": OBJECT_ID, "prompts": prompts}],
        },
    }
    return validate_body(JobIn, orjson.dumps(body))


def prompt_to_json(prompt: SlicePrompt, size: list[int], engine: EngineName) -> Json:
    """Return the fields of `PromptIn`."""
    content: Json = {}
    if prompt.points:
        content |= {"points": prompt.points, "labels": prompt.labels}
    if prompt.mask is not None:
        content["mask"] = {"size": size, "counts": prompt.mask}
    # To SAM 2's memory a box is the beginning of another mask.
    if prompt.box is not None and (prompt.mask is None or engine is EngineName.PROJECTION):
        content["box"] = prompt.box
    return content


async def collect_mask(lines: AsyncIterator[bytes], lease: Lease, axis: int) -> VolumeMask:
    """Return the mask that the result lines of a job tell."""
    counts: dict[int, str] = {}
    async for line in lines:
        result = orjson.loads(line)
        for item in result["objects"]:
            if item["area"]:
                counts[result["slice"]] = item["mask"]["counts"]
    return VolumeMask(lease.get_volume().shape, axis, counts)


def job_error(job: Job) -> SegserveError:
    """Return why a job has no result."""
    if job.error is None:
        return Unavailable(f"The job is {job.state}.")
    return BadInput(job.error.message, field=job.error.field, remedy=job.error.remedy or "Try again.")


async def cancel_submitted(service: Service, submitting: "asyncio.Task[Job]") -> None:
    with suppress(SegserveError):
        await cancel_job(service, (await submitting).job_id)


async def cancel_job(service: Service, job_id: str) -> None:
    with suppress(SegserveError):
        await service.jobs.queue.cancel(DEFAULT_TENANT, job_id)
