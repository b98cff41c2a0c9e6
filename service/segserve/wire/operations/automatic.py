"""All objects of an image without prompts (AIS, AMG), as REST, gRPC, batch jobs and the command line call it."""

import asyncio
import json
from dataclasses import replace

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.timing import Timings
from segserve.types import ImageObjects
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.hints import hint_doubtful_objects
from segserve.wire.operations.models import find_own_method
from segserve.wire.results import objects
from segserve.wire.schemas.automatic import AisIn, AmgIn, AutomaticIn, ModelsMethodIn
from segserve.wire.schemas.objects import ResultFormat


async def find_objects(service: Service, request: AutomaticIn, timings: Timings) -> ImageObjects:
    """Find all objects by the method of the request, or else by the model's own.

    Raises as the methods of `AutomaticSegmenter` do, and as `name_method`.
    """
    body = request.root
    if isinstance(body, ModelsMethodIn):
        body = (await asyncio.to_thread(name_method, service, body)).root
    model = body.model or service.settings.default_model
    if isinstance(body, AmgIn):
        result = await service.automatic.segment_amg(
            current_tenant(),
            body.image_id,
            model,
            body.params,
            timings,
            scale=body.scale_request(),
            raw=body.raw,
        )
    else:
        assert isinstance(body, AisIn)
        result = await service.automatic.segment_ais(
            current_tenant(),
            body.image_id,
            model,
            body.params,
            timings,
            scale=body.scale_request(),
            raw=body.raw,
        )
    return replace(result, hints=await hint_doubtful_objects(service, result))


def name_method(service: Service, body: ModelsMethodIn) -> AutomaticIn:
    """Return the body with the model's own method, and its params checked.

    Blocks. Raises ModelNotFound, WrongModel, and BadInput where they are params of another method.
    """
    method = find_own_method(service, body.model)
    fields = {**body.model_dump(mode="json", exclude_unset=True), "method": method}
    # Not by orjson: params are not checked yet, and may have numbers of more than 64 bits.
    return validate_body(AutomaticIn, json.dumps(fields).encode())


async def write_objects(
    service: Service,
    result: ImageObjects,
    result_format: ResultFormat,
    timings: Timings,
    tolerance: float | None = None,
) -> tuple[bytes, str]:
    """Write the objects of an image as (content, media type). Raises TooLarge where the format cannot hold them.

    tolerance: of polygons, in pixels.
    """
    overlay = result_format is ResultFormat.OVERLAY
    image = await service.images.read_pixels(current_tenant(), result.image_id) if overlay else None
    with timings.stage("format"):
        return await asyncio.to_thread(objects.write_objects, result, result_format, image, tolerance)
