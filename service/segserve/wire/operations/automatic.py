"""All objects of an image without prompts (AIS, AMG), as REST, gRPC, batch jobs and the command line call it."""

import asyncio

from segserve.app import Service
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, ImageObjects
from segserve.wire.results import objects
from segserve.wire.schemas.automatic import AmgIn, AutomaticIn
from segserve.wire.schemas.objects import ResultFormat


async def find_objects(service: Service, request: AutomaticIn, timings: Timings) -> ImageObjects:
    """Find all objects by the method of the request. Raises as the methods of `AutomaticSegmenter` do."""
    body = request.root
    model = body.model or service.settings.default_model
    if isinstance(body, AmgIn):
        return await service.automatic.segment_amg(
            DEFAULT_TENANT,
            body.image_id,
            model,
            body.params,
            timings,
            scale=body.scale_request(),
            raw=body.raw,
        )
    return await service.automatic.segment_ais(
        DEFAULT_TENANT, body.image_id, model, body.params, timings, scale=body.scale_request(), raw=body.raw
    )


async def write_objects(
    service: Service, result: ImageObjects, result_format: ResultFormat, timings: Timings
) -> tuple[bytes, str]:
    """Write the objects of an image as (content, media type). Raises TooLarge where the format cannot hold them."""
    overlay = result_format is ResultFormat.OVERLAY
    image = await service.images.read_pixels(DEFAULT_TENANT, result.image_id) if overlay else None
    with timings.stage("format"):
        return await asyncio.to_thread(objects.write_objects, result, result_format, image)
