"""Whole images without prompts, as REST and gRPC share it."""

import asyncio

from segserve.app import Service
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, ImageObjects
from segserve.wire.results import objects
from segserve.wire.schemas.automatic import AmgIn, AutomaticIn
from segserve.wire.schemas.common import ResultFormat


async def find_objects(service: Service, asked: AutomaticIn, timings: Timings) -> ImageObjects:
    """All objects, by the method that was asked for. Raises as the methods of `Automatic` do."""
    body = asked.root
    model = body.model or service.settings.default_model
    if isinstance(body, AmgIn):
        return await service.automatic.segment_amg(DEFAULT_TENANT, body.image_id, model, body.params, timings)
    return await service.automatic.segment_ais(DEFAULT_TENANT, body.image_id, model, body.params, timings)


async def write_objects(
    service: Service, found: ImageObjects, result_format: ResultFormat, timings: Timings
) -> tuple[bytes, str]:
    """(the answer's bytes, their media type). Raises TooLarge where the format cannot hold what was found."""
    overlay = result_format is ResultFormat.OVERLAY
    image = await service.images.read_pixels(DEFAULT_TENANT, found.image_id) if overlay else None
    with timings.stage("format"):
        return await asyncio.to_thread(objects.write_objects, found, result_format, image)
