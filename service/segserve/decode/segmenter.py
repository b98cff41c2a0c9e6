"""Interactive segmentation, start to end: prompts on an image -> masks."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from segserve.decode import large_images
from segserve.decode.check_prompt import check_prompt, hint_missing_boxes
from segserve.decode.click_limit import ClickLimit
from segserve.decode.decode_prompt import decode_prompt
from segserve.decode.mask_cache import MaskCache
from segserve.encode.embeddings import Embeddings, ImageExtent
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.timing import Timings
from segserve.types import Candidate, Prompt, Region, Select, Size, UsageKind

# So many points more double the time of decoding a prompt.
POINTS_PER_CLICK = 16

Rendered = TypeVar("Rendered")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class MaskResult(Generic[Rendered]):
    """One mask of an answer.

    rendered: what the caller's `render` made of it. mask_id: to refine it; None if Redis is away.
    """

    candidate: Candidate
    rendered: Rendered
    mask_id: str | None


@dataclass(frozen=True)
class SegmentResult(Generic[Rendered]):
    """The answer to a segment request.

    results: one list for each prompt, in order. hints: what may be wrong with them, and what to do about it.
    """

    image_id: str
    model: str
    size: Size
    results: list[list[MaskResult[Rendered]]]
    hints: tuple[str, ...] = ()

    @property
    def mask_count(self) -> int:
        return sum(map(len, self.results))


@dataclass(frozen=True)
class RegionPrompt:
    """A prompt in pixels of a region of the image. region: None is all of the image."""

    prompt: Prompt
    region: Region | None


class PromptSegmenter:
    """`PromptSegmenter` answers segment requests: checks, embedding, decoding, mask_ids, metrics.

    decode_pool: the threads that decode, one prompt at a time each. threads: how many they are.
    click_limit: how many requests may decode or wait for it.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        embeddings: Embeddings,
        masks: MaskCache,
        decode_pool: Executor,
        metrics: Metrics,
        *,
        threads: int,
        click_limit: ClickLimit,
    ) -> None:
        self._registry, self._embeddings, self._masks = registry, embeddings, masks
        self._decode_pool, self._threads = decode_pool, threads
        self._click_limit, self._metrics = click_limit, metrics

    async def segment(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        prompts: list[Prompt],
        *,
        multimask: bool | None,
        select: Select,
        raw: bool,
        render: Callable[[Candidate], Rendered],
        timings: Timings,
        fields: Sequence[str] | None = None,
    ) -> SegmentResult[Rendered]:
        """Return the masks of all prompts.

        multimask: three candidates (True), one mask (False), or what suits the prompt (None).
        raw: the model's own masks, not cleaned, see `decode_prompt`.
        render: turns a mask into what the caller needs; called in the thread that decoded it.
        fields: the prompts' names in the request, for errors; "prompts.0" and so on if left out.

        Raises NotFound (image, model, mask), BadInput (a prompt that does not fit the image), Busy, Unavailable.
        """
        start = time.perf_counter()
        model = await self._registry.get(model_name, PromptableModel)
        # Before the image is encoded: an invalid prompt must not wait for that.
        extent = await self._embeddings.get_extent(tenant, image_id, model)
        fields = fields or [f"prompts.{index}" for index in range(len(prompts))]
        for prompt, field in zip(prompts, fields, strict=True):
            check_prompt(prompt, extent.size, model, field)
        placed = [
            await self._place_prompt(tenant, image_id, model, extent, prompt, field)
            for prompt, field in zip(prompts, fields, strict=True)
        ]
        regions = [item.region for item in placed]

        async def decode_region(region: Region | None) -> list[list[tuple[Candidate, Rendered]]]:
            image = await self._embeddings.get_prepared(tenant, image_id, model, timings, region=region)

            def decode(prompt: Prompt) -> list[tuple[Candidate, Rendered]]:
                decode_start = time.perf_counter()
                candidates = decode_prompt(model, image, prompt, multimask, select, timings, raw=raw)
                if region is not None:
                    candidates = [large_images.move_to_image(c, region, extent.size) for c in candidates]
                with timings.stage("format"):
                    answer = [(candidate, render(candidate)) for candidate in candidates]
                decoding.append(time.perf_counter() - decode_start)
                return answer

            region_prompts = [item.prompt for item in placed if item.region == region]
            with self._click_limit.slot(sum(count_clicks(prompt) for prompt in region_prompts)) as decoding:
                return await self._run_all(decode, region_prompts)

        by_region = {region: iter(await decode_region(region)) for region in dict.fromkeys(regions)}
        answers = [next(by_region[region]) for region in regions]
        with timings.stage("remember"):
            logits = [candidate.logits for answer in answers for candidate, _ in answer]
            mask_regions = [region for region, answer in zip(regions, answers, strict=True) for _ in answer]
            mask_ids = iter(await self._masks.put(tenant, image_id, model, logits, mask_regions))
        self._metrics.clicks.count_masks(model.name, len(logits))
        self._metrics.usage.count(tenant, UsageKind.CLICKS, len(prompts))
        self._metrics.clicks.record(embedding_source(timings), time.perf_counter() - start)
        results = [
            [MaskResult(candidate, rendered, next(mask_ids)) for candidate, rendered in answer]
            for answer in answers
        ]
        hints = hint_missing_boxes(model.manifest, prompts)
        return SegmentResult(image_id, model.name, extent.size, results, hints)

    async def _run_all(self, decode: Callable[[Prompt], Answer], prompts: list[Prompt]) -> list[Answer]:
        """Decode all prompts of a request, at most as many at the same time as there are threads.

        A request of hundreds of prompts must not queue all of them before another user's single click.
        """
        loop = asyncio.get_running_loop()
        # Nearly every request: the tasks and the semaphore would take a tenth of a millisecond.
        if len(prompts) == 1:
            return [await loop.run_in_executor(self._decode_pool, decode, prompts[0])]
        free_threads = asyncio.Semaphore(self._threads)

        async def run(prompt: Prompt) -> Answer:
            async with free_threads:
                return await loop.run_in_executor(self._decode_pool, decode, prompt)

        return list(await asyncio.gather(*(run(prompt) for prompt in prompts)))

    async def _place_prompt(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        extent: ImageExtent,
        prompt: Prompt,
        field: str,
    ) -> RegionPrompt:
        """Replace the mask_id by its logits and, on a large image, choose the region to decode on."""
        logits = prompt.logits
        if prompt.mask_id is not None:
            logits = await self._masks.get(tenant, image_id, model, prompt.mask_id, f"{field}.mask_id")
        elif logits is not None and extent.tiled:
            raise large_images.logits_refusal(f"{field}.logits")
        with_logits = replace(prompt, logits=logits, mask_id=None)
        if not extent.tiled:
            return RegionPrompt(with_logits, None)
        logits_region = None if prompt.mask_id is None else large_images.parse_region(prompt.mask_id)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._decode_pool,
            move_prompt_to_region,
            with_logits,
            logits_region,
            extent.size,
            model,
            field,
        )


def move_prompt_to_region(
    prompt: Prompt, logits_region: Region | None, size: Size, model: PromptableModel, field: str
) -> RegionPrompt:
    """Choose the region of a large image that the prompt needs, and move prompt and logits into its pixels.

    logits_region: the region that the prompt's logits are of. Raises TooLarge.
    """
    region = large_images.choose_region(prompt, logits_region, size, model.manifest, field)
    logits = prompt.logits
    if logits is not None and logits_region is not None:
        logits = large_images.move_logits(logits, logits_region, region, model.manifest)
    return RegionPrompt(replace(large_images.move_to_region(prompt, region), logits=logits), region)


def count_clicks(prompt: Prompt) -> float:
    """Return how many clicks take as long to decode as this prompt does."""
    return 1 + len(prompt.points) / POINTS_PER_CLICK


def embedding_source(timings: Timings) -> str:
    """Return where the embedding was, for the metrics: the stages of the request tell."""
    if "encode" in timings.seconds or "wait" in timings.seconds:
        return "encoded"
    return "redis" if "cache" in timings.seconds else "process"
