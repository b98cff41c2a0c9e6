"""/v1/jobs: submit, watch, read, correct, cancel and retry long work."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from segserve.app import Service
from segserve.errors import SegserveError
from segserve.identity.identity import current_tenant
from segserve.jobs.engine.job import JobEvent
from segserve.jobs.engine.job_json import job_to_json
from segserve.wire.http import request_body
from segserve.wire.http.media_type import JSON
from segserve.wire.operations.add_prompts import add_prompts
from segserve.wire.operations.delete_job import delete_job
from segserve.wire.operations.jobs import submit_job
from segserve.wire.rest.responses import BINARY, TEXT, accepted_response, json_response, problem_responses
from segserve.wire.results.job import write_job_results
from segserve.wire.results.job_formats import FILE_TYPES, JobFormat
from segserve.wire.schemas.examples import JOB_ID
from segserve.wire.schemas.jobs import JobIn, JobOut, JobsOut
from segserve.wire.schemas.propagation import AddPromptsIn

EVENT_STREAM = "text/event-stream"
JSON_OBJECT: dict[str, Any] = {"schema": {"type": "object"}}
# Bytes first: generated clients take the first kind that they know, and the default is no JSON but lines of it.
RESULT_CONTENT: dict[str, Any] = {
    "application/octet-stream": BINARY,
    **{
        file_type.media_type: JSON_OBJECT if file_type.media_type == JSON else BINARY
        for file_type in FILE_TYPES.values()
    },
    FILE_TYPES[JobFormat.NDJSON].media_type: TEXT,
}
HEARTBEAT_S = 15.0  # proxies close a connection that is silent for a minute
FIRST_EVENT = "0"  # events after this id are all events

JobId = Annotated[str, Path(description="as POST /v1/jobs answered it", max_length=64, examples=[JOB_ID])]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="the same key and body again: the same job"),
]
LastEventId = Annotated[
    str | None,
    Header(max_length=64, description="go on after this event; browsers send it when they connect again"),
]


def event_to_sse(event: JobEvent) -> bytes:
    """A server-sent event (WHATWG HTML, 9.2.5)."""
    name = b"end" if event.job.state.has_ended else b"progress"
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event.id.encode(),
        name,
        orjson.dumps(job_to_json(event.job)),
    )


async def stream_events(
    service: Service, first: JobEvent | None, events: AsyncIterator[JobEvent | None]
) -> AsyncIterator[bytes]:
    """Stream events, with heartbeats between them. The stream ends early when the service stops, or when the Redis of
    the jobs cannot be reached; the client then connects again."""
    if first is not None:
        yield event_to_sse(first)
    sent_at = time.monotonic()
    try:
        async for event in events:
            if event is not None:
                yield event_to_sse(event)
                sent_at = time.monotonic()
            elif time.monotonic() - sent_at > HEARTBEAT_S:
                yield b": still here\n\n"
                sent_at = time.monotonic()
            if service.closing.is_set():  # also where events come without a pause
                return
    except SegserveError:
        return


def add_routes(api: FastAPI, service: Service) -> None:
    add_submission(api, service)
    add_reading(api, service)
    add_changes(api, service)


def add_submission(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/jobs",
        summary="Submit a job",
        name="submit_job",
        status_code=202,
        response_model=JobOut,
        openapi_extra=request_body.json_body_schema(JobIn),
        responses=problem_responses(400, 403, 404, 408, 413, 415, 422, 503, 507),
        tags=["jobs"],
    )
    async def submit(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        """Submit long work. It goes on if processes or machines fail. Follow it by its job_id."""
        async with request_body.open_large_json(request, JobIn, service.large_requests) as body:
            return accepted_response(await submit_job(service, body, idempotency_key))


def add_reading(api: FastAPI, service: Service) -> None:
    @api.get(
        "/v1/jobs",
        summary="List the newest jobs",
        response_model=JobsOut,
        responses=problem_responses(403, 503),
        tags=["jobs"],
    )
    async def list_jobs() -> Response:
        """The newest jobs."""
        return json_response(
            {"jobs": [job_to_json(job) for job in await service.jobs.queue.list_recent(current_tenant())]}
        )

    @api.get(
        "/v1/jobs/{job_id}",
        summary="Look up a job",
        response_model=JobOut,
        responses=problem_responses(403, 404, 422, 503),
        tags=["jobs"],
    )
    async def get_job(job_id: JobId) -> Response:
        """State and progress of a job."""
        return json_response(job_to_json(await service.jobs.queue.get(current_tenant(), job_id)))

    @api.get(
        "/v1/jobs/{job_id}/events",
        summary="Watch a job",
        response_class=StreamingResponse,
        responses={200: {"content": {EVENT_STREAM: {}}}, **problem_responses(403, 404, 422, 503)},
        tags=["jobs"],
    )
    async def watch_job(job_id: JobId, last_event_id: LastEventId = None) -> Response:
        """Follow a job until it has ended: its state and progress as server-sent events. A client that sends
        Last-Event-ID misses none."""
        events = service.jobs.queue.follow(current_tenant(), job_id, last_event_id or FIRST_EVENT)
        first = await anext(events, None)  # errors of the request are raised here, before the stream begins
        return StreamingResponse(
            stream_events(service, first, events),
            media_type=EVENT_STREAM,
            headers={"Cache-Control": "no-store"},
        )

    @api.get(
        "/v1/jobs/{job_id}/results",
        summary="Read the results of a job",
        name="read_job_results",
        response_class=StreamingResponse,
        responses={200: {"content": RESULT_CONTENT}, **problem_responses(403, 404, 413, 422, 501, 503)},
        tags=["jobs"],
    )
    async def read_results(
        job_id: JobId,
        from_: Annotated[
            int,
            Query(alias="from", ge=0, le=1 << 53, description="number of lines to leave out, for ndjson"),
        ] = 0,
        format_: Annotated[
            JobFormat, Query(alias="format", description="how the results are written")
        ] = JobFormat.NDJSON,
    ) -> Response:
        """Read the results that are done so far.

        All kinds of jobs: ndjson, a line for each image, frame or slice; coco, one COCO data set; png and tiff, a zip
        of label or class maps. Jobs on frames and slices: tiff_stack, label maps as the pages of one TIFF; sheet, some
        frames with the objects drawn on them, as one PNG. Video and tracking: mp4, the frames with the objects drawn on
        them. Volumes: nifti, nrrd, mha, a label volume in the source's geometry; dicom_seg, a DICOM SEG that refers to
        the images of a DICOM source. Tracking: ctc, the format of the Cell Tracking Challenge. The values of label maps
        are object_ids."""
        job = await service.jobs.queue.get(current_tenant(), job_id)
        file_type = FILE_TYPES[format_]
        parts = await write_job_results(service, job, format_, from_)
        headers = {"Content-Disposition": f'inline; filename="{job.job_id}{file_type.suffix}"'}
        return StreamingResponse(parts, media_type=file_type.media_type, headers=headers)


def add_changes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/jobs/{job_id}/prompts",
        summary="Add prompts to a job",
        status_code=202,
        response_model=JobOut,
        openapi_extra=request_body.json_body_schema(AddPromptsIn),
        responses=problem_responses(400, 403, 404, 408, 413, 415, 422, 503, 507),
        tags=["jobs"],
    )
    async def add_prompts_to_job(job_id: JobId, request: Request) -> Response:
        """Add objects and corrections to a job on a video or a volume, while it runs or after. Results that depend on
        them are computed again, the rest stays."""
        async with request_body.open_large_json(request, AddPromptsIn, service.large_requests) as body:
            return json_response(job_to_json(await add_prompts(service, job_id, body)), 202)

    @api.post(
        "/v1/jobs/{job_id}/retry",
        summary="Run a job again",
        status_code=202,
        response_model=JobOut,
        responses=problem_responses(403, 404, 422, 503),
        tags=["jobs"],
    )
    async def retry_job(job_id: JobId) -> Response:
        """Run a failed or cancelled job again, from the last finished part on."""
        return json_response(job_to_json(await service.jobs.queue.retry(current_tenant(), job_id)), 202)

    @api.delete(
        "/v1/jobs/{job_id}",
        summary="Cancel or delete a job",
        name="delete_job",
        response_model=JobOut,
        responses={
            204: {"description": "It had ended, and is deleted"},
            **problem_responses(403, 404, 422, 503),
        },
        tags=["jobs"],
    )
    async def delete(
        job_id: JobId,
        delete_ended: Annotated[
            bool, Query(description="delete a job that has ended, with its results, instead of keeping it")
        ] = False,
    ) -> Response:
        """Stop a job within one image or frame; its finished results can still be read. A job that has ended stays as
        it is, or, with `delete_ended`, is deleted with its results: 204."""
        job = await delete_job(service, job_id, delete_ended=delete_ended)
        return Response(status_code=204) if job is None else json_response(job_to_json(job))
