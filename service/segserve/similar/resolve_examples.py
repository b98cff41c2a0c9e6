"""Examples as prompts become masks: a mask to refine that comes alone is the object, everything else is segmented."""

import asyncio

import numpy as np

from segserve.decode.check_prompt import check_prompt
from segserve.decode.large_images import logits_refusal, parse_region
from segserve.decode.mask_cache import MaskCache
from segserve.decode.prompt_encoding import logits_geometry
from segserve.decode.segmenter import PromptSegmenter
from segserve.encode.embeddings import ImageExtent
from segserve.errors import BadInput
from segserve.masks import crop as crops
from segserve.masks.upscale import upscale_mask
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Candidate, Crop, Float32, Prompt, Region, Select, Size

FIELD = "examples"


class ExampleResolver:
    """`ExampleResolver` returns the masks of examples. segmenter, masks: as clicks use them."""

    def __init__(self, segmenter: PromptSegmenter, masks: MaskCache) -> None:
        self._segmenter, self._masks = segmenter, masks

    async def resolve(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        extent: ImageExtent,
        examples: list[Prompt],
        timings: Timings,
    ) -> list[Crop]:
        """Return the mask of each example, in pixels of its image, none of them empty.

        Raises what `PromptSegmenter.segment` raises, and BadInput for an example that is empty.
        """
        for index, example in enumerate(examples):
            check_prompt(example, extent.size, model, f"{FIELD}.{index}")
        prompted = [index for index, example in enumerate(examples) if is_prompted(example)]
        found: dict[int, Crop] = {}
        if prompted:
            answer = await self._segmenter.segment(
                tenant,
                image_id,
                model.name,
                [examples[index] for index in prompted],
                multimask=None,
                select=Select.BEST,
                raw=False,
                render=get_crop,
                timings=timings,
                fields=[f"{FIELD}.{index}" for index in prompted],
            )
            found = {index: masks[0].rendered for index, masks in zip(prompted, answer.results, strict=True)}
        for index, example in enumerate(examples):
            if index not in found:
                field = f"{FIELD}.{index}"
                found[index] = await self._read_mask(tenant, image_id, model, extent, example, field)
            if not found[index].pixels.any():
                raise BadInput(
                    "The example has no pixels.",
                    field=f"{FIELD}.{index}",
                    remedy="Send a mask with pixels, or a prompt on an object.",
                )
        return [found[index] for index in range(len(examples))]

    async def _read_mask(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        extent: ImageExtent,
        example: Prompt,
        field: str,
    ) -> Crop:
        if example.mask is not None:
            return await asyncio.to_thread(crops.from_mask, example.mask)
        region = None
        if example.mask_id is not None:
            logits = await self._masks.get(tenant, image_id, model, example.mask_id, f"{field}.mask_id")
            region = parse_region(example.mask_id)
        elif extent.tiled:
            raise logits_refusal(f"{field}.logits")
        else:
            assert example.logits is not None
            logits = example.logits
        return await asyncio.to_thread(upscale_to_image, logits, region, extent.size, model)


def is_prompted(example: Prompt) -> bool:
    """Return whether there is more than an earlier mask: points or a box."""
    return bool(len(example.points)) or example.box is not None


def get_crop(candidate: Candidate) -> Crop:
    """Return the mask of a candidate with pixels of its own, so that the candidate's logits can go."""
    crop = candidate.crop
    return Crop(np.array(crop.pixels), crop.x, crop.y, crop.size)


def upscale_to_image(logits: Float32, region: Region | None, size: Size, model: PromptableModel) -> Crop:
    """Return the mask of low-res logits of a region, in pixels of the image; None is all of the image."""
    geometry = logits_geometry(model.manifest, size if region is None else region.size)
    crop = upscale_mask(logits, geometry, model.manifest.mask_threshold)
    return crop if region is None else Crop(crop.pixels, crop.x + region.x, crop.y + region.y, size)
