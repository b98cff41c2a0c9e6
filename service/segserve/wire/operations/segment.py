"""Masks for prompts, as REST, gRPC and batch jobs call it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from segserve.app import Service
from segserve.decode.segmenter import SegmentResult
from segserve.errors import TooLarge
from segserve.identity.identity import current_tenant
from segserve.timing import Timings
from segserve.types import MB, Candidate, Prompt, Size
from segserve.wire.operations.hints import hint_low_scores
from segserve.wire.schemas.prompts import PromptIn
from segserve.wire.schemas.segment import SegmentIn

# All binary masks of a request together. Each pixel takes one byte while the request runs.
MAX_MASK_PIXELS = 512 * MB

T = TypeVar("T")


async def segment(
    service: Service, request: SegmentIn, render: Callable[[Candidate], T], timings: Timings
) -> SegmentResult[T]:
    """Segment the object of each prompt. render: makes the answer's form of one mask.

    Raises as `PromptSegmenter.segment` does, and as `build_prompts`.
    """
    result = await service.segmenter.segment(
        current_tenant(),
        request.image_id,
        request.model or service.settings.default_model,
        await build_prompts(service, request.image_id, request.prompts, "prompts"),
        multimask=request.multimask,
        select=request.select,
        raw=request.raw,
        render=render,
        timings=timings,
    )
    best = [max(mask.candidate.score for mask in masks) for masks in result.results]
    return replace(result, hints=(*result.hints, *await hint_low_scores(service, result.model, best)))


async def build_prompts(
    service: Service, image_id: str, prompts: Sequence[PromptIn], field: str
) -> list[Prompt]:
    """Convert the prompts of a request. Masks may be large, and are decoded in a thread.

    field: the prompts' name in the request. Raises BadInput, TooLarge, ImageNotFound.
    """

    def build(size: Size) -> list[Prompt]:
        return [prompt.to_prompt(f"{field}.{i}", size) for i, prompt in enumerate(prompts)]

    mask_count = sum(prompt.mask is not None for prompt in prompts)
    if not mask_count:
        return build(Size(0, 0))  # only masks are compared with the image's size
    size = (await service.images.get_record(current_tenant(), image_id)).size
    check_mask_pixels(mask_count, size, field, "Send fewer masks at once, or refine by mask_id.")
    return await asyncio.to_thread(build, size)


def check_mask_pixels(count: int, size: Size, field: str, remedy: str = "Send fewer masks at once.") -> None:
    """Check that so many masks of an image's size may be decoded at once. Raises TooLarge."""
    if count * size.height * size.width > MAX_MASK_PIXELS:
        raise TooLarge(
            f"{count} masks of this image's size are more than {MAX_MASK_PIXELS // MB} megapixels.",
            field=field,
            remedy=remedy,
        )
