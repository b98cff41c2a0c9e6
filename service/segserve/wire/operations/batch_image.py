"""One image of a batch job: the job calls the operation of the route, with the options of the route."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel

from segserve.app import Service
from segserve.jobs.kinds.batch import BatchItem, BatchOperation
from segserve.models.promptable_model import PromptableModel
from segserve.wire.operations import automatic, instances, segment, semantic, similar
from segserve.wire.operations.common import validate_body
from segserve.wire.results import masks, objects
from segserve.wire.results.image import list_page_hints
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.objects import ResultFormat
from segserve.wire.schemas.segment import MaskFormat, SegmentIn
from segserve.wire.schemas.semantic import SemanticFormat, SemanticIn
from segserve.wire.schemas.similar import SimilarIn

BODIES: dict[str, type[BaseModel]] = {
    "segment": SegmentIn,
    "automatic": AutomaticIn,
    "similar": SimilarIn,
    "semantic": SemanticIn,
    "instances": InstancesIn,
}
# Results are kept as run lengths. Every other format is made of them when the results are read.
STORED_FORMATS = {
    "segment": MaskFormat.RLE,
    "automatic": ResultFormat.RLE,
    "similar": ResultFormat.RLE,
    "semantic": SemanticFormat.RLE,
    "instances": ResultFormat.RLE,
}


def create_body(operation: str, item: BatchItem) -> dict[str, Any]:
    """The body for the operation's route and this image."""
    prompts = {"prompts": list(item.prompts)} if operation == "segment" else {}
    return {
        **item.options,
        **prompts,
        "image_id": item.image_id,
        "model": item.model,
        "format": STORED_FORMATS[operation].value,
    }


def create_image_operations(service: Service) -> dict[str, BatchOperation]:
    """The function of each operation, which takes an image of the batch and returns the JSON that is kept."""

    async def embed_image(item: BatchItem) -> Mapping[str, Any]:
        model = await service.registry.get(item.model, PromptableModel)
        await service.embeddings.ensure_encoded(item.tenant, item.image_id, model, service.new_timings())
        return {"model": model.name}

    async def segment_image(item: BatchItem) -> Mapping[str, Any]:
        request = validate_body(SegmentIn, orjson.dumps(create_body("segment", item)))
        render = masks.create_renderer(MaskFormat.RLE)
        result = await segment.segment(service, request, render, service.new_timings())
        content = masks.segment_to_json(result)
        for prompt in content["results"]:
            for mask in prompt["masks"]:
                del mask["mask_id"]  # it expires soon, and a repeated run would answer another one
        return content

    async def find_all_objects(item: BatchItem) -> Mapping[str, Any]:
        request = validate_body(AutomaticIn, orjson.dumps(create_body("automatic", item)))
        result = await automatic.find_objects(service, request, service.new_timings())
        return await asyncio.to_thread(objects.objects_to_json, result, ResultFormat.RLE)

    async def find_similar_objects(item: BatchItem) -> Mapping[str, Any]:
        request = validate_body(SimilarIn, orjson.dumps(create_body("similar", item)))
        result = await similar.find_similar(service, request, service.new_timings())
        return await asyncio.to_thread(objects.objects_to_json, result, ResultFormat.RLE)

    async def classify_pixels(item: BatchItem) -> Mapping[str, Any]:
        request = validate_body(SemanticIn, orjson.dumps(create_body("semantic", item)))
        answer = await semantic.segment_semantic(service, request, service.new_timings())
        content: dict[str, Any] = orjson.loads(answer.content)
        return content

    async def find_class_objects(item: BatchItem) -> Mapping[str, Any]:
        request = validate_body(InstancesIn, orjson.dumps(create_body("instances", item)))
        _, content = await instances.find_instances(
            service,
            request,
            lambda result, _: objects.objects_to_json(result, ResultFormat.RLE),
            service.new_timings(),
        )
        return content

    operations: dict[str, BatchOperation] = {
        "embed": embed_image,
        "segment": segment_image,
        "automatic": find_all_objects,
        "similar": find_similar_objects,
        "semantic": classify_pixels,
        "instances": find_class_objects,
    }
    return {name: add_page_hints(service, operation) for name, operation in operations.items()}


def add_page_hints(service: Service, operation: BatchOperation) -> BatchOperation:
    """Return the operation whose results say in `hints` that only the first page of a stack was read.

    Pictures of a zip and of a server's folder have no upload that would say so.
    """

    async def run_with_hints(item: BatchItem) -> Mapping[str, Any]:
        content = await operation(item)
        hints = list_page_hints(await service.images.get_record(item.tenant, item.image_id))
        return {**content, "hints": [*hints, *content.get("hints", [])]} if hints else content

    return run_with_hints
