"""The mask of a volume for what a user has drawn: a job of the service follows the object through the slices."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.jobs.kinds.job_requests import EngineName
from segserve.wire.frontends.nninteractive.interactions import Interactions, SlicePrompt
from segserve.wire.frontends.nninteractive.lease import Lease
from segserve.wire.frontends.nninteractive.volume_mask import VolumeMask
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.propagation import choose_engine
from segserve.wire.operations.run_job import run_job
from segserve.wire.schemas.jobs import JobIn

Json = dict[str, Any]

OBJECT_ID = 1


async def predict(service: Service, lease: Lease, interactions: Interactions) -> VolumeMask:
    """Return the mask of the object. The job is cancelled where the caller is.

    Raises what `run_job` raises.
    """
    engine = choose_engine(await service.registry.get_bundle(lease.model), None)
    body = await asyncio.to_thread(build_job, lease, interactions, engine)
    job = await run_job(service, body)
    lines = await service.jobs.queue.read_results(current_tenant(), job.job_id)
    return await collect_mask(lines, lease, interactions.axis)


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
