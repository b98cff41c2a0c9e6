"""More objects like the examples, as REST, gRPC, batch jobs and the command line call it."""

from segserve.app import Service
from segserve.errors import ImageNotFound
from segserve.identity.identity import current_tenant
from segserve.timing import Timings
from segserve.types import ImageObjects
from segserve.wire.operations.segment import build_prompts
from segserve.wire.schemas.similar import SimilarIn


async def check_example_image(service: Service, image_id: str, field: str) -> None:
    """Check that the image with the examples exists. field: that names it. Raises ImageNotFound."""
    try:
        await service.images.get_record(current_tenant(), image_id)
    except ImageNotFound:
        raise ImageNotFound(image_id, field) from None


async def find_similar(service: Service, request: SimilarIn, timings: Timings) -> ImageObjects:
    """Find the objects. Raises as `SimilarSegmenter.find` and `build_prompts` do."""
    example_image_id = request.example_image_id or request.image_id
    if example_image_id != request.image_id:
        await check_example_image(service, example_image_id, "example_image_id")
    return await service.similar.find(
        current_tenant(),
        request.image_id,
        request.model or service.settings.default_model,
        example_image_id,
        await build_prompts(service, example_image_id, request.examples, "examples"),
        request.params.to_options(),
        timings,
    )
