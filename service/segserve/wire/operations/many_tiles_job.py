"""An image of too many tiles for one request (TooManyTiles) becomes a job: a batch of this one image."""

import orjson

from segserve.app import Service
from segserve.errors import NotAllowed, TooManyTiles
from segserve.jobs.engine.job import Job
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.jobs import submit_job
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.jobs import JobIn


async def submit_many_tiles(service: Service, request: AutomaticIn, refusal: TooManyTiles) -> Job:
    """Submit the request as a job. Raises `refusal` where the operator allows no jobs, and as `submit_job` does."""
    body = request.root
    content = {
        "kind": "batch",
        "model": body.model or service.settings.default_model,
        "priority": "interactive",
        "input": {"image_ids": [body.image_id]},
        "params": {
            "operation": "automatic",
            "options": body.model_dump(
                mode="json", include={"method", "raw", "object_size", "scale", "params"}, exclude_unset=True
            ),
        },
    }
    try:
        return await submit_job(service, validate_body(JobIn, orjson.dumps(content)), None)
    except NotAllowed:
        raise refusal from None
