"""Helpers of all routes: path parameters, JSON answers, and the OpenAPI entries of refusals and files."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import Path
from fastapi.responses import Response

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.job_json import job_to_json
from segserve.timing import Timings
from segserve.wire.http import problems, request_body
from segserve.wire.results import objects
from segserve.wire.schemas.common import EXAMPLE_IMAGE_ID
from segserve.wire.schemas.problems import ProblemOut

ImageId = Annotated[
    str, Path(description="as POST /v1/images answered it", max_length=128, examples=[EXAMPLE_IMAGE_ID])
]
ModelName = Annotated[
    str, Path(description="as GET /v1/models names it", max_length=64, examples=["starter"])
]

HINTS_HEADER = "Segserve-Hints"

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
# The OpenAPI content of label and class maps as files.
MAP_CONTENT: dict[str, Any] = dict.fromkeys((objects.PNG, objects.TIFF, objects.NPY), BINARY)


# The OpenAPI content of text.
TEXT: dict[str, Any] = {"schema": {"type": "string"}}
PROBLEM = {"$ref": request_body.COMPONENTS.format(model=ProblemOut.__name__)}
REFUSALS = {
    400: "The body cannot be parsed.",
    401: "A key is needed, or the one that was sent does not count.",
    403: "The operator does not allow it.",
    404: "There is no such image, file, job or model.",
    408: "The body came too slowly.",
    409: "The model cannot do this.",
    413: "The body, the image or the answer is too large.",
    415: "A body of this type, or a file of this format, is not read.",
    422: "A field has a wrong value.",
    429: "More requests than the operator allows; Retry-After says when to come again.",
    501: "The service lacks an extra that this needs.",
    503: "The service is busy, or a part of it is away; Retry-After says when to come again.",
    507: "The storage is full.",
}
RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {
        "description": "seconds after which to come again",
        "schema": {"type": "integer", "minimum": 0},
    }
}
# The OpenAPI headers of refusals, by their status.
REFUSAL_HEADERS: dict[int, dict[str, Any]] = {429: {"headers": RETRY_AFTER}, 503: {"headers": RETRY_AFTER}}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of the refusals of a route; `openapi.add_refusals_of_middleware` adds those before it."""
    content: dict[str, Any] = {problems.MEDIA_TYPE: {"schema": PROBLEM}}
    return {
        status: {"description": REFUSALS[status], "content": content, **REFUSAL_HEADERS.get(status, {})}
        for status in statuses
    }


def json_response(content: Any, status: int = 200, timings: Timings | None = None) -> Response:
    """content as JSON, with timings in the header Server-Timing."""
    headers = {} if timings is None else {"Server-Timing": timings.server_timing()}
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def hint_headers(hints: Sequence[str]) -> dict[str, str]:
    """The header of an answer's hints: for label maps, which have no room for them."""
    return {HINTS_HEADER: " ".join(hints)} if hints else {}


def accepted_response(job: Job) -> Response:
    """202: the job, and its URL in the header Location."""
    response = json_response(job_to_json(job), 202)
    response.headers["Location"] = f"/v1/jobs/{job.job_id}"
    return response
