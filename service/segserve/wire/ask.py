"""What REST and gRPC share."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from segserve.app import MB, Service
from segserve.decode.segment import Segmentation
from segserve.errors import BadInput, TooLarge
from segserve.models.bundle import Bundle, PromptableManifest
from segserve.models.model import AIS
from segserve.timing import Timings
from segserve.types import DEFAULT_TENANT, Candidate, Prompt, Size
from segserve.wire.schemas import SegmentIn

MASK_PIXELS = 512 * MB  # of all binary masks of a request together; one byte each while it runs

T = TypeVar("T")
Body = TypeVar("Body", bound=BaseModel)


def checked(kind: type[Body], asked: dict[str, Any], *, remedy: str) -> Body:
    """What did not come as JSON, as REST's schema. Raises BadInput naming the field at fault."""
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{field}: {reason}.", field=field, remedy=remedy) from None


async def build_prompts(service: Service, asked: SegmentIn) -> list[Prompt]:
    """The request's prompts; masks, which may be large, are read in a thread. Raises BadInput, ImageNotFound."""
    masks = sum(prompt.mask is not None for prompt in asked.prompts)
    if not masks:
        return [prompt.build(index, Size(0, 0)) for index, prompt in enumerate(asked.prompts)]
    size = (await service.library.record(DEFAULT_TENANT, asked.image_id)).size
    if masks * size.height * size.width > MASK_PIXELS:
        raise TooLarge(
            f"{masks} masks of this image's size are more than {MASK_PIXELS // MB} megapixels.",
            field="prompts",
            remedy="Send fewer masks at once, or refine by mask_id.",
        )
    return await asyncio.to_thread(lambda: [p.build(index, size) for index, p in enumerate(asked.prompts)])


async def segment(
    service: Service, asked: SegmentIn, render: Callable[[Candidate], T], timings: Timings
) -> Segmentation[T]:
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
    return ["ais", "amg"] if bundle.has(AIS) else ["amg"]


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
        "description": manifest.description,
        "licence": manifest.licence,
        "source": manifest.source,
        "digest": bundle.digest,
        "loaded": service.registry.is_loaded(manifest.name),
        "default": manifest.name == service.settings.default_model,
    }
