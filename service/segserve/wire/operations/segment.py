"""What REST and gRPC share."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from segserve.app import MB, Service
from segserve.decode.segmenter import SegmentResult
from segserve.errors import TooLarge
from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, Manifest, PromptableManifest, SemanticManifest
from segserve.models.promptable_model import AIS_DECODER_FILE
from segserve.semantic.class_map import list_foreground_classes
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, Candidate, Prompt, Size
from segserve.wire.http.problems import InvalidRequest
from segserve.wire.schemas.common import SegmentIn

MASK_PIXELS = 512 * MB  # of all binary masks of a request together; one byte each while it runs

T = TypeVar("T")
Schema = TypeVar("Schema", bound=BaseModel)


def validate_body(schema: type[Schema], content: dict[str, Any] | bytes) -> Schema:
    """What did not come over REST, as fields or as JSON, checked as if it had. Raises BadInput naming the field at
    fault."""
    try:
        if isinstance(content, bytes):
            return schema.model_validate_json(content)
        return schema.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise InvalidRequest(found, "/docs, proto/segserve/v1 or --help") from None


async def build_prompts(service: Service, asked: SegmentIn) -> list[Prompt]:
    """The request's prompts; masks, which may be large, are read in a thread. Raises BadInput, ImageNotFound."""
    masks = sum(prompt.mask is not None for prompt in asked.prompts)
    if not masks:
        return [prompt.build(index, Size(0, 0)) for index, prompt in enumerate(asked.prompts)]
    size = (await service.images.record(DEFAULT_TENANT, asked.image_id)).size
    if masks * size.height * size.width > MASK_PIXELS:
        raise TooLarge(
            f"{masks} masks of this image's size are more than {MASK_PIXELS // MB} megapixels.",
            field="prompts",
            remedy="Send fewer masks at once, or refine by mask_id.",
        )
    return await asyncio.to_thread(lambda: [p.build(index, size) for index, p in enumerate(asked.prompts)])


async def segment(
    service: Service, asked: SegmentIn, render: Callable[[Candidate], T], timings: Timings
) -> SegmentResult[T]:
    """Raises as `Segmenter.segment` does."""
    return await service.segmenter.segment(
        DEFAULT_TENANT,
        asked.image_id,
        asked.model or service.settings.default_model,
        await build_prompts(service, asked),
        multimask=asked.multimask,
        select=asked.select,
        render=render,
        timings=timings,
    )


def methods(bundle: Bundle) -> list[str]:
    """How the model finds all objects of an image."""
    if not isinstance(bundle.manifest, PromptableManifest):
        return []
    return ["ais", "amg"] if bundle.has(AIS_DECODER_FILE) else ["amg"]


def describe(service: Service, bundle: Bundle) -> dict[str, Any]:
    """What a client is told of a model."""
    manifest = bundle.manifest
    promptable = manifest if isinstance(manifest, PromptableManifest) else None
    return {
        "name": manifest.name,
        "kind": manifest.kind,
        "architecture": manifest.architecture,
        "input_size": promptable and promptable.preprocess.input_size,
        "low_res": promptable and promptable.dims.low,
        "automatic": methods(bundle),
        "classes": class_names(manifest),
        "description": manifest.description,
        "licence": manifest.licence,
        "source": manifest.source,
        "digest": bundle.digest,
        "loaded": service.registry.is_loaded(manifest.name),
        "default": manifest.name == service.settings.default_model,
    }


def class_names(manifest: Manifest) -> list[str] | None:
    """What a model knows besides background; the n-th, from 1, is n in class maps. None: it knows no classes."""
    match manifest:
        case SemanticManifest():
            return list(list_foreground_classes(manifest))
        case InstancesManifest():
            return list(manifest.classes[1:])
    return None
