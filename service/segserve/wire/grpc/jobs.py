"""JobService: convert, call, convert back."""

import math
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import orjson
from google.protobuf.json_format import MessageToDict

from segserve.app import Service
from segserve.errors import BadInput
from segserve.jobs.engine.job import Job
from segserve.types import DEFAULT_TENANT, Priority
from segserve.v1 import jobs_pb2, jobs_pb2_grpc
from segserve.wire.grpc.convert import known, prompt_in
from segserve.wire.operations import jobs, propagation, segment
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.propagation import AddPromptsIn

PRIORITY = dict(enumerate([Priority.BATCH, Priority.BATCH, Priority.INTERACTIVE]))

EXACT = 1 << 53  # up to here a float is one integer
Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types


def job_in(request: jobs_pb2.SubmitJobRequest) -> JobIn:
    """Raises BadInput naming the field at fault."""
    kind = request.WhichOneof("work")
    if kind is None:
        raise BadInput("No work is named.", field="work", remedy="Send batch, video, volume or tracking.")
    asked = {
        "kind": kind,
        "model": request.model or None,
        "priority": known(PRIORITY, request.priority, "priority").value,
        "webhook": request.webhook or None,
        **(batch_in(request.batch) if kind == "batch" else file_work_in(getattr(request, kind))),
    }
    return segment.validate_body(JobIn, orjson.dumps(asked))


def batch_in(batch: jobs_pb2.Batch) -> dict[str, Any]:
    return {
        "input": {
            "image_ids": list(batch.image_ids),
            "names": list(batch.names),
            "file_id": batch.file_id or None,
            "root": batch.root or None,
            "folder": batch.folder,
        },
        "params": {
            "operation": batch.operation,
            "options": whole_numbers(MessageToDict(batch.options)),
            "prompts": {
                image_id: [prompt_in(prompt) for prompt in prompts.prompts]
                for image_id, prompts in batch.prompts.items()
            },
        },
    }


def file_work_in(work: jobs_pb2.Video | jobs_pb2.Volume | jobs_pb2.Tracking) -> dict[str, Any]:
    params = whole_numbers(MessageToDict(work.params))
    if not isinstance(work, jobs_pb2.Tracking) and work.objects:
        params["objects"] = objects_in(work.objects)
    return {"input": {"file_id": work.file_id}, "params": params}


def objects_in(objects: Iterable[jobs_pb2.FollowedObject]) -> list[dict[str, Any]]:
    """As REST's `FollowedIn`."""
    return [
        {
            "object_id": each.object_id,
            "prompts": [{"frame": placed.frame, **prompt_in(placed.prompt)} for placed in each.prompts],
        }
        for each in objects
    ]


def whole_numbers(value: Any) -> Any:
    """A Struct has no integers: 60.0 was 60. Raises BadInput for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: whole_numbers(each) for name, each in value.items()}
    if isinstance(value, list):
        return [whole_numbers(each) for each in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise BadInput(f"{value} is no number to work with.", field="params", remedy="Send finite numbers.")
    return int(value) if value.is_integer() and abs(value) <= EXACT else value


def job_out(job: Job) -> jobs_pb2.Job:
    message = jobs_pb2.Job(
        job_id=job.job_id,
        kind=job.kind,
        model=job.model,
        priority=f"JOB_PRIORITY_{job.priority.name}",
        state=f"JOB_STATE_{job.state.name}",
        done=job.done,
        total=job.total,
        failed=job.failures,
        rate_per_s=job.rate_per_s,
        eta_s=job.eta_s,
        attempts=job.attempts,
    )
    if (error := job.error) is not None:
        reason = error.code.upper()
        message.error.MergeFrom(
            jobs_pb2.JobError(reason=reason, message=error.message, remedy=error.remedy, field=error.field)
        )
    for name in ("created_at", "started_at", "ended_at"):
        if (seconds := getattr(job, name)) is not None:
            getattr(message, name).FromMilliseconds(round(1000 * seconds))
    return message


class Jobs(jobs_pb2_grpc.JobServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def SubmitJob(
        self, request: jobs_pb2.SubmitJobRequest, context: Context
    ) -> jobs_pb2.SubmitJobResponse:
        job = await jobs.submit_job(self._service, job_in(request), request.idempotency_key or None)
        return jobs_pb2.SubmitJobResponse(job=job_out(job))

    async def GetJob(self, request: jobs_pb2.GetJobRequest, context: Context) -> jobs_pb2.GetJobResponse:
        job = await self._service.jobs.queue.get(DEFAULT_TENANT, request.job_id)
        return jobs_pb2.GetJobResponse(job=job_out(job))

    async def ListJobs(
        self, request: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        found = await self._service.jobs.queue.list_recent(DEFAULT_TENANT)
        return jobs_pb2.ListJobsResponse(jobs=[job_out(job) for job in found])

    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        after = request.after_event or "0"
        async for event in self._service.jobs.queue.follow(DEFAULT_TENANT, request.job_id, after):
            if event is not None:
                yield jobs_pb2.WatchJobResponse(event=event.id, job=job_out(event.job))
            elif self._service.closing.is_set():
                return

    async def ReadResults(
        self, request: jobs_pb2.ReadResultsRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.ReadResultsResponse]:
        lines = await self._service.jobs.queue.read_results(DEFAULT_TENANT, request.job_id, request.skip)
        async for line in lines:
            yield jobs_pb2.ReadResultsResponse(json=line.decode())

    async def AddPrompts(
        self, request: jobs_pb2.AddPromptsRequest, context: Context
    ) -> jobs_pb2.AddPromptsResponse:
        asked = segment.validate_body(AddPromptsIn, orjson.dumps({"objects": objects_in(request.objects)}))
        job = await propagation.revise(self._service, request.job_id, asked)
        return jobs_pb2.AddPromptsResponse(job=job_out(job))

    async def CancelJob(
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.CancelJobResponse:
        job = await self._service.jobs.queue.cancel(DEFAULT_TENANT, request.job_id)
        return jobs_pb2.CancelJobResponse(job=job_out(job))

    async def RetryJob(
        self, request: jobs_pb2.RetryJobRequest, context: Context
    ) -> jobs_pb2.RetryJobResponse:
        job = await self._service.jobs.queue.retry(DEFAULT_TENANT, request.job_id)
        return jobs_pb2.RetryJobResponse(job=job_out(job))
