"""Long work: submit, look, follow, read, cancel, try again."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from segserve.app import Service
from segserve.errors import SegserveError
from segserve.jobs.engine.job import JobEvent
from segserve.jobs.engine.job_json import job_to_json
from segserve.types import DEFAULT_TENANT
from segserve.wire.http import request_body
from segserve.wire.operations import jobs, propagation
from segserve.wire.rest.responses import accepted, json, refusals
from segserve.wire.results import job as job_results
from segserve.wire.results.job_formats import FILE_TYPES, JobFormat
from segserve.wire.schemas.jobs import JobIn, JobOut, JobsOut
from segserve.wire.schemas.propagation import AddPromptsIn

EVENTS = "text/event-stream"
CONTENT: dict[str, Any] = {form.media_type: {} for form in FILE_TYPES.values()}
HEARTBEAT_S = 15.0  # proxies close what is silent for a minute

JobId = Annotated[str, Path(description="as POST /v1/jobs answered it", max_length=64)]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="the same key and body again: the same job"),
]
LastEventId = Annotated[
    str | None, Header(max_length=64, description="go on after this event, as browsers do by themselves")
]


def as_text(event: JobEvent) -> bytes:
    """As server-sent events are written (WHATWG HTML, 9.2.5)."""
    name = b"end" if event.job.state.has_ended else b"progress"
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        event.id.encode(),
        name,
        orjson.dumps(job_to_json(event.job)),
    )


async def as_stream(
    service: Service, first: JobEvent | None, events: AsyncIterator[JobEvent | None]
) -> AsyncIterator[bytes]:
    """A stream that ends early, for the service stops or the jobs' Redis is away, is taken up again by the client."""
    if first is not None:
        yield as_text(first)
    said = time.monotonic()
    try:
        async for event in events:
            if event is not None:
                yield as_text(event)
                said = time.monotonic()
            elif service.closing.is_set():
                return
            elif time.monotonic() - said > HEARTBEAT_S:
                yield b": still here\n\n"
                said = time.monotonic()
    except SegserveError:
        return


def add(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/jobs",
        status_code=202,
        response_model=JobOut,
        openapi_extra=request_body.json_schema(JobIn),
        responses=refusals(400, 403, 404, 408, 413, 415, 422, 503, 507),
        tags=["jobs"],
    )
    async def submit(request: Request, idempotency_key: IdempotencyKey = None) -> Response:
        """Begin long work. It goes on whatever dies meanwhile, and is looked at under its job_id."""
        asked = await request_body.read_json(request, JobIn)
        return accepted(await jobs.submit_job(service, asked, idempotency_key))

    @api.get("/v1/jobs", response_model=JobsOut, responses=refusals(403, 503), tags=["jobs"])
    async def recent() -> Response:
        """The newest jobs."""
        return json(
            {"jobs": [job_to_json(job) for job in await service.jobs.queue.list_recent(DEFAULT_TENANT)]}
        )

    @api.get(
        "/v1/jobs/{job_id}", response_model=JobOut, responses=refusals(403, 404, 422, 503), tags=["jobs"]
    )
    async def state(job_id: JobId) -> Response:
        return json(job_to_json(await service.jobs.queue.get(DEFAULT_TENANT, job_id)))

    @api.get(
        "/v1/jobs/{job_id}/events",
        responses={200: {"content": {EVENTS: {}}}, **refusals(403, 404, 422, 503)},
        tags=["jobs"],
    )
    async def events(job_id: JobId, last_event_id: LastEventId = None) -> Response:
        """Follow a job: its state now and then, as server-sent events, until it has ended. With Last-Event-ID none
        is missed."""
        propagation = service.jobs.queue.follow(DEFAULT_TENANT, job_id, last_event_id or "0")
        # What is wrong with the request is said before the stream begins.
        first = await anext(propagation, None)
        return StreamingResponse(
            as_stream(service, first, propagation), media_type=EVENTS, headers={"Cache-Control": "no-store"}
        )

    @api.get(
        "/v1/jobs/{job_id}/results",
        responses={200: {"content": CONTENT}, **refusals(403, 404, 413, 422, 501, 503)},
        tags=["jobs"],
    )
    async def results(
        job_id: JobId,
        from_: Annotated[
            int, Query(alias="from", ge=0, le=1 << 53, description="lines to leave out, of ndjson")
        ] = 0,
        format_: Annotated[JobFormat, Query(alias="format")] = JobFormat.NDJSON,
    ) -> Response:
        """What is done so far. ndjson: a line for each image, frame or slice, as it came. coco: one COCO data set. png,
        tiff: a zip of label or class maps. Of frames and slices, tiff_stack: label maps as one TIFF; sheet: some of
        them as one PNG to look at. Of video and tracking, mp4: objects drawn over the frames. Of volumes, nifti, nrrd,
        mha: a label volume in the source's geometry. Label maps hold object_ids."""
        job = await service.jobs.queue.get(DEFAULT_TENANT, job_id)
        form = FILE_TYPES[format_]
        parts = await job_results.write_job_results(service, job, format_, from_)
        named = {"Content-Disposition": f'inline; filename="{job.job_id}{form.suffix}"'}
        return StreamingResponse(parts, media_type=form.media_type, headers=named)

    @api.post(
        "/v1/jobs/{job_id}/prompts",
        status_code=202,
        response_model=JobOut,
        openapi_extra=request_body.json_schema(AddPromptsIn),
        responses=refusals(400, 403, 404, 408, 413, 415, 422, 503),
        tags=["jobs"],
    )
    async def add_prompts(job_id: JobId, request: Request) -> Response:
        """Add objects and corrections to a job on a video or a volume, while it runs or after: what follows them is
        made again, the rest stays."""
        asked = await request_body.read_json(request, AddPromptsIn)
        return json(job_to_json(await propagation.revise(service, job_id, asked)), 202)

    @api.post(
        "/v1/jobs/{job_id}/retry",
        status_code=202,
        response_model=JobOut,
        responses=refusals(403, 404, 422, 503),
        tags=["jobs"],
    )
    async def retry(job_id: JobId) -> Response:
        """Try what failed or was cancelled again, from the last finished part on."""
        return json(job_to_json(await service.jobs.queue.retry(DEFAULT_TENANT, job_id)), 202)

    @api.delete(
        "/v1/jobs/{job_id}", response_model=JobOut, responses=refusals(403, 404, 422, 503), tags=["jobs"]
    )
    async def cancel(job_id: JobId) -> Response:
        """Stop a job within one image or frame. What it has finished can still be read."""
        return json(job_to_json(await service.jobs.queue.cancel(DEFAULT_TENANT, job_id)))
