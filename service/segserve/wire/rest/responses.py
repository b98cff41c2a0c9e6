"""What the routes share: answers, and how OpenAPI is told of refusals."""

from typing import Annotated, Any

import orjson
from fastapi import Path
from fastapi.responses import Response

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.job_json import job_to_json
from segserve.timing import Timings
from segserve.wire.http import problems
from segserve.wire.schemas.common import ProblemOut

ImageId = Annotated[str, Path(description="as POST /v1/images answered it", max_length=128)]
ModelName = Annotated[str, Path(max_length=64)]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {problems.MEDIA_TYPE: {"schema": ProblemOut.model_json_schema()}}
    return {status: {"description": "A problem document", "content": content} for status in statuses}


def json(content: Any, status: int = 200, timings: Timings | None = None) -> Response:
    extra = {} if timings is None else {"Server-Timing": timings.server_timing()}
    return Response(orjson.dumps(content), status, extra, media_type="application/json")


def accepted(job: Job) -> Response:
    """It is worked on: where to look."""
    answer = json(job_to_json(job), 202)
    answer.headers["Location"] = f"/v1/jobs/{job.job_id}"
    return answer
