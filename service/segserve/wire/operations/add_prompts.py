"""New objects and corrections for a video or volume job, while it runs or after it has ended."""

import asyncio

import orjson

from segserve.app import Service
from segserve.errors import BadInput
from segserve.files.file_view import view_shape
from segserve.identity.identity import current_tenant
from segserve.jobs.engine.job import Job, JobKind
from segserve.jobs.kinds.job_requests import EngineName, PropagationRequest, RequestedObject
from segserve.jobs.kinds.propagation_plan import count_kept_chunks
from segserve.wire.operations.propagation import check_job_size, check_object_prompts, to_stored_prompts
from segserve.wire.schemas.propagation import AddPromptsIn


async def add_prompts(service: Service, job_id: str, request: AddPromptsIn) -> Job:
    """Add prompts to a job. Results that depend on them are computed again, all others stay.

    Raises JobNotFound, BadInput, TooLarge, Busy.
    """
    queue = service.jobs.queue
    job = await queue.get(current_tenant(), job_id)
    if job.kind not in (JobKind.VIDEO, JobKind.VOLUME):
        raise BadInput(
            f"A {job.kind} job takes no prompts.",
            field="job_id",
            remedy="Send a job of kind video or volume.",
        )
    # A request is megabytes of JSON at most: it is read, merged and written off the event loop.
    before = await asyncio.to_thread(read_stored_request, await queue.read_request(job))
    record = await service.files.get_record(current_tenant(), before.view.file_id)
    await asyncio.to_thread(check_object_prompts, request.objects, record, before.view.axis, "objects")
    after = await asyncio.to_thread(add_objects, before, request, job.revision + 1)
    count, _ = view_shape(record, before.view.axis)
    check_job_size(after, count, "objects")
    kept = await asyncio.to_thread(count_kept_chunks, before, after, count)
    stored = await asyncio.to_thread(lambda: after.model_dump_json().encode())
    return await queue.revise(job, stored, kept)


def read_stored_request(content: bytes) -> PropagationRequest:
    """Raises BadInput where the job has no prompts."""
    if orjson.loads(content)["engine"] not in list(EngineName):
        raise BadInput(
            "The job finds all objects by itself.", field="job_id", remedy="Submit one with objects."
        )
    return PropagationRequest.model_validate_json(content)


def add_objects(before: PropagationRequest, request: AddPromptsIn, revision: int) -> PropagationRequest:
    added = [to_stored_prompts(item, revision) for item in request.objects]
    return before.model_copy(update={"objects": merge_prompts(before.objects, added)})


def merge_prompts(before: list[RequestedObject], added: list[RequestedObject]) -> list[RequestedObject]:
    """The objects of a job, with added prompts after the earlier ones of the same object, and its latest name."""
    objects = {item.object_id: item for item in before}
    for item in added:
        if (earlier := objects.get(item.object_id)) is not None:
            prompts = [*earlier.prompts, *item.prompts]
            item = earlier.model_copy(update={"name": item.name or earlier.name, "prompts": prompts})
        objects[item.object_id] = item
    return list(objects.values())
