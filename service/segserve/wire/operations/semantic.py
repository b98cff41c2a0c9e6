"""The semantic route's part that REST and gRPC share."""

from dataclasses import dataclass

import orjson

from segserve.app import Service
from segserve.masks.label_map import encode_npy
from segserve.semantic.class_map import ClassMap
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, UInt8
from segserve.wire.results import objects
from segserve.wire.schemas.common import ResultFormat
from segserve.wire.schemas.semantic import SemanticFormat, SemanticIn

AREAS = "Segserve-Areas"  # a header, so that a class map as a file comes with its areas


@dataclass(frozen=True)
class SemanticAnswer:
    """content: as `media_type` says."""

    found: ClassMap
    content: bytes
    media_type: str


async def segment_semantic(service: Service, asked: SemanticIn, timings: Timings) -> SemanticAnswer:
    """Raises as `SemanticSegmenter.segment` does."""
    found, (content, media_type) = await service.semantic.segment(
        DEFAULT_TENANT,
        asked.image_id,
        asked.model or service.settings.default_semantic_model,
        asked.build(),
        lambda answer, image: write_class_map(answer, asked.format, image),
        timings,
    )
    return SemanticAnswer(found, content, media_type)


def write_class_map(answer: ClassMap, asked: SemanticFormat, image: UInt8) -> tuple[bytes, str]:
    """(the answer's bytes, their media type)."""
    if asked is SemanticFormat.PROBABILITIES:
        assert answer.probabilities is not None
        return encode_npy(answer.probabilities), objects.NPY
    known = ResultFormat(asked)
    if known in objects.MAPS:
        return objects.write_map(answer.values, known, image)
    found = answer.to_image_objects()
    content = (
        objects.objects_to_coco(found)
        if known is ResultFormat.COCO
        else objects.objects_to_json(found, known)
    )
    classes = [
        {"value": each.value, "class": each.name, "area": each.area, "fraction": each.fraction}
        for each in answer.classes
    ]
    return orjson.dumps({**content, "classes": classes}), objects.JSON


def areas_header(answer: ClassMap) -> str:
    """Pixels by value in the class map, of the classes that occur: "1=52311, 3=17". Their names are in
    GET /v1/models/{model}."""
    return ", ".join(f"{each.value}={each.area}" for each in answer.classes if each.area)
