"""What is too large for a request to wait for, as a job."""

import orjson

from segserve.app import Service
from segserve.errors import NotAllowed, TooManyTiles
from segserve.jobs.engine.job import Job
from segserve.wire.operations import jobs, segment
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.jobs import JobIn


async def submit(service: Service, asked: AutomaticIn, why: TooManyTiles) -> Job:
    """A batch of the one image. Raises `why` where there are to be no jobs, and as `jobs.submit_job` does."""
    body = asked.root
    content = {
        "kind": "batch",
        "model": body.model or service.settings.default_model,
        "priority": "interactive",
        "input": {"image_ids": [body.image_id]},
        "params": {
            "operation": "automatic",
            "options": {"method": body.method, "params": body.params.model_dump(exclude_unset=True)},
        },
    }
    try:
        return await jobs.submit_job(service, segment.validate_body(JobIn, orjson.dumps(content)), None)
    except NotAllowed:
        raise why from None
