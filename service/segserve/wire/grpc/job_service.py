"""JobService: long work in the background."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.v1 import jobs_pb2, jobs_pb2_grpc
from segserve.wire.grpc.convert.jobs import add_prompts_from_message, job_from_message, job_to_message
from segserve.wire.grpc.message_structure import convert_message
from segserve.wire.http.json_pieces import freed_slowly
from segserve.wire.operations.add_prompts import add_prompts
from segserve.wire.operations.delete_job import delete_job
from segserve.wire.operations.jobs import submit_job

Context: TypeAlias = Any  # grpc.aio.ServicerContext; grpc has no types

FIRST_EVENT = "0"  # events after this id are all events


class JobService(jobs_pb2_grpc.JobServiceServicer):
    """Every method converts the request, calls what REST calls too, and converts the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def SubmitJob(
        self, request: jobs_pb2.SubmitJobRequest, context: Context
    ) -> jobs_pb2.SubmitJobResponse:
        size_bytes = request.ByteSize()
        async with self._service.large_requests.turn(size_bytes):
            body = await convert_message(job_from_message, request)
            async with freed_slowly(body, body.pieces, size_bytes):
                job = await submit_job(self._service, body, request.idempotency_key or None)
        return jobs_pb2.SubmitJobResponse(job=job_to_message(job))

    async def GetJob(self, request: jobs_pb2.GetJobRequest, context: Context) -> jobs_pb2.GetJobResponse:
        job = await self._service.jobs.queue.get(current_tenant(), request.job_id)
        return jobs_pb2.GetJobResponse(job=job_to_message(job))

    async def ListJobs(
        self, request: jobs_pb2.ListJobsRequest, context: Context
    ) -> jobs_pb2.ListJobsResponse:
        jobs = await self._service.jobs.queue.list_recent(current_tenant())
        return jobs_pb2.ListJobsResponse(jobs=[job_to_message(job) for job in jobs])

    async def WatchJob(
        self, request: jobs_pb2.WatchJobRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.WatchJobResponse]:
        after = request.after_event or FIRST_EVENT
        async for event in self._service.jobs.queue.follow(current_tenant(), request.job_id, after):
            if event is not None:
                yield jobs_pb2.WatchJobResponse(event=event.id, job=job_to_message(event.job))
            if self._service.closing.is_set():  # also where events come without a pause
                return

    async def ReadResults(
        self, request: jobs_pb2.ReadResultsRequest, context: Context
    ) -> AsyncIterator[jobs_pb2.ReadResultsResponse]:
        lines = await self._service.jobs.queue.read_results(current_tenant(), request.job_id, request.skip)
        async for line in lines:
            yield jobs_pb2.ReadResultsResponse(json=line.decode())

    async def AddPrompts(
        self, request: jobs_pb2.AddPromptsRequest, context: Context
    ) -> jobs_pb2.AddPromptsResponse:
        size_bytes = request.ByteSize()
        async with self._service.large_requests.turn(size_bytes):
            body = await convert_message(add_prompts_from_message, request)
            async with freed_slowly(body, body.pieces, size_bytes):
                job = await add_prompts(self._service, request.job_id, body)
        return jobs_pb2.AddPromptsResponse(job=job_to_message(job))

    async def CancelJob(
        self, request: jobs_pb2.CancelJobRequest, context: Context
    ) -> jobs_pb2.CancelJobResponse:
        job = await self._service.jobs.queue.cancel(current_tenant(), request.job_id)
        return jobs_pb2.CancelJobResponse(job=job_to_message(job))

    async def DeleteJob(
        self, request: jobs_pb2.DeleteJobRequest, context: Context
    ) -> jobs_pb2.DeleteJobResponse:
        job = await delete_job(self._service, request.job_id, delete_ended=True)
        return jobs_pb2.DeleteJobResponse(job=None if job is None else job_to_message(job))

    async def RetryJob(
        self, request: jobs_pb2.RetryJobRequest, context: Context
    ) -> jobs_pb2.RetryJobResponse:
        job = await self._service.jobs.queue.retry(current_tenant(), request.job_id)
        return jobs_pb2.RetryJobResponse(job=job_to_message(job))
