"""Helpers of all routes: path parameters, JSON answers, and the OpenAPI entries of refusals and files."""

from typing import Annotated, Any

import orjson
from fastapi import Path
from fastapi.responses import Response

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.job_json import job_to_json
from segserve.timing import Timings
from segserve.wire.http import problems
from segserve.wire.results import objects
from segserve.wire.schemas.problems import ProblemOut

ImageId = Annotated[str, Path(description="as POST /v1/images answered it", max_length=128)]
ModelName = Annotated[str, Path(max_length=64)]

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
# The OpenAPI content of label and class maps as files.
MAP_CONTENT: dict[str, Any] = dict.fromkeys((objects.PNG, objects.TIFF, objects.NPY), BINARY)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a route's refusals."""
    content: dict[str, Any] = {problems.MEDIA_TYPE: {"schema": ProblemOut.model_json_schema()}}
    return {status: {"description": "A problem document", "content": content} for status in statuses}


def json_response(content: Any, status: int = 200, timings: Timings | None = None) -> Response:
    """content as JSON, with timings in the header Server-Timing."""
    headers = {} if timings is None else {"Server-Timing": timings.server_timing()}
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def accepted_response(job: Job) -> Response:
    """202: the job, and its URL in the header Location."""
    response = json_response(job_to_json(job), 202)
    response.headers["Location"] = f"/v1/jobs/{job.job_id}"
    return response
