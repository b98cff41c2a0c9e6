"""A class for every pixel, as REST, gRPC, batch jobs and the command line call it."""

from dataclasses import dataclass

import orjson

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.masks.label_map import encode_npy
from segserve.semantic.class_map import ClassMap
from segserve.timing import Timings
from segserve.types import UInt8
from segserve.wire.results import objects
from segserve.wire.schemas.objects import ResultFormat
from segserve.wire.schemas.semantic import SemanticFormat, SemanticIn

# A class map that is answered as a file has no room for the areas of its classes: this header has them.
AREAS_HEADER = "Segserve-Areas"


@dataclass(frozen=True)
class SemanticAnswer:
    """A class map, and its content in the format of the request."""

    class_map: ClassMap
    content: bytes
    media_type: str


async def segment_semantic(service: Service, request: SemanticIn, timings: Timings) -> SemanticAnswer:
    """Find the class of every pixel. Raises as `SemanticSegmenter.segment` does."""
    class_map, (content, media_type) = await service.semantic.segment(
        current_tenant(),
        request.image_id,
        request.model or service.settings.default_semantic_model,
        request.to_options(),
        lambda class_map, image: write_class_map(class_map, request.format, image, request.tolerance),
        timings,
    )
    return SemanticAnswer(class_map, content, media_type)


def write_class_map(
    class_map: ClassMap, semantic_format: SemanticFormat, image: UInt8, tolerance: float | None = None
) -> tuple[bytes, str]:
    """Write a class map as (content, media type).

    image [H, W, 3]: what an overlay is drawn on. tolerance: of polygons, in pixels.
    """
    if semantic_format is SemanticFormat.PROBABILITIES:
        assert class_map.probabilities is not None
        return encode_npy(class_map.probabilities), objects.NPY
    result_format = ResultFormat(semantic_format)
    if result_format in objects.MAPS:
        return objects.write_map(class_map.values, result_format, image)
    result = class_map.to_image_objects()
    if result_format is ResultFormat.COCO:
        content = objects.objects_to_coco(result)
    else:
        content = objects.objects_to_json(result, result_format, tolerance)
    classes = [
        {"value": c.value, "class": c.name, "area": c.area, "fraction": c.fraction} for c in class_map.classes
    ]
    return orjson.dumps({**content, "classes": classes}), objects.JSON


def areas_header(class_map: ClassMap) -> str:
    """The value of AREAS_HEADER: pixels by value in the class map, for the classes that occur ("1=52311, 3=17"). The
    names of the classes are in GET /v1/models/{model}."""
    return ", ".join(f"{c.value}={c.area}" for c in class_map.classes if c.area)
