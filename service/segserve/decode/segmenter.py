"""The main job: prompts on an image -> masks."""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from cachetools import TTLCache
from numpy.typing import NDArray

from segserve.decode import large_images
from segserve.decode.click_limit import ClickLimit
from segserve.decode.prompt_encoding import (
    SINGLE,
    check_mask_size,
    encode_tokens,
    logits_geometry,
    mask_to_logits,
    select_mask_tokens,
)
from segserve.encode.embeddings import Embeddings, ImageExtent
from segserve.encode.prepared_cache import PreparedImage
from segserve.errors import BadInput, CacheUnavailable, MaskNotFound
from segserve.masks.upscale import upscale_mask
from segserve.metrics import Metrics
from segserve.models.manifest import ModelKind
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.store.redis_cache import RedisCache
from segserve.timing import Timings
from segserve.types import Candidate, Float16, Float32, Prompt, Region, Select, Size

# SAM 2's rule for a single mask (sam2's build_sam2 defaults): stable if shifting the threshold by
# +-DELTA changes less than 2% of its area.
STABILITY_DELTA, STABILITY_THRESHOLD = 0.05, 0.98
SAM2_LOGIT_LIMIT = 32.0
HELD_MASKS = 512
WRITE_S = 0.05  # within which a mask that a replica has answered with is in Redis

Rendered = TypeVar("Rendered")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class MaskResult(Generic[Rendered]):
    """One mask, what the caller rendered of it, and its id: None where the cache is away."""

    candidate: Candidate
    rendered: Rendered
    mask_id: str | None


@dataclass(frozen=True)
class SegmentResult(Generic[Rendered]):
    """results: one list per prompt, in order."""

    image_id: str
    model: str
    size: Size
    results: list[list[MaskResult[Rendered]]]


def is_stable(logits: Float32) -> bool:
    """The area at threshold +delta over the area at -delta, which contains it, against the threshold."""
    outer = np.count_nonzero(logits > -STABILITY_DELTA)
    return outer == 0 or bool(np.count_nonzero(logits > STABILITY_DELTA) / outer >= STABILITY_THRESHOLD)


def choose_masks(
    logits: Float32, scores: Float32, channels: list[int], kind: ModelKind, select: Select
) -> list[int]:
    """Positions in `channels` of the masks to answer with. logits [M, h, w], scores [M]."""
    if kind is ModelKind.SAM2 and channels[0] == SINGLE:
        return [0] if is_stable(logits[0]) else [1 + int(scores[1:].argmax())]
    if select is Select.BEST:
        return [int(scores.argmax())]
    return list(range(len(channels)))


def decode_prompt(
    model: PromptableModel,
    image: PreparedImage,
    prompt: Prompt,
    multimask: bool | None,
    select: Select,
    timings: Timings,
) -> list[Candidate]:
    """One prompt, start to end, in the calling thread."""
    manifest = model.manifest
    prepared = image.prepared
    prior = prompt.logits if prompt.mask is None else mask_to_logits(prompt.mask, manifest)
    if prior is not None:
        with timings.stage("prepare"):
            prepared = model.prepare(image.embedding, prior, image.prepared)
    coords, labels = encode_tokens(prompt, manifest, image.size)
    channels = select_mask_tokens(prompt, manifest.kind, multimask, select)
    with timings.stage("decode"):
        logits, scores = model.decode(prepared, coords, labels, channels)
    scores = scores[channels]
    chosen = choose_masks(logits, scores, channels, manifest.kind, select)
    with timings.stage("postprocess"):
        where = logits_geometry(manifest, image.size)
        return [
            Candidate(
                crop=upscale_mask(logits[i], where, manifest.mask_threshold),
                score=float(scores[i]),
                logits=clamp_logits(logits[i]) if manifest.kind is ModelKind.SAM2 else logits[i],
            )
            for i in chosen
        ]


def clamp_logits(logits: Float32) -> Float32:
    return np.clip(logits, -SAM2_LOGIT_LIMIT, SAM2_LOGIT_LIMIT)


class MaskCache:
    """Low-res logits by mask_id: held here for the next click, in Redis for the other replicas.

    A click does not wait for Redis: its masks are held at once and written while the answer is on its way.
    Once a write has failed, the next ones are waited for, until one succeeds.
    """

    def __init__(self, cache: RedisCache, ttl_s: int, workers: Executor) -> None:
        self._cache, self._workers = cache, workers
        self._held: TTLCache[tuple[str, str, str], NDArray[np.floating]] = TTLCache(HELD_MASKS, ttl_s)
        self._writing: set[asyncio.Task[None]] = set()
        self._away = False

    async def keep(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        logits: list[Float32],
        regions: list[Region | None],
    ) -> list[str | None]:
        """New ids, or None for each where the cache is away. regions: where each was found, None is anywhere on
        the image."""
        masks = {new_mask_id(model, region): array for array, region in zip(logits, regions, strict=True)}
        writing = asyncio.create_task(self._write(tenant, image_id, masks))
        self._writing.add(writing)  # the loop itself holds tasks only weakly
        writing.add_done_callback(self._writing.discard)
        if self._away:
            await writing
            if self._away:
                return [None] * len(masks)
        for mask_id, array in masks.items():
            self._held.setdefault((tenant, image_id, mask_id), array)
        return list(masks)

    async def _write(self, tenant: str, image_id: str, masks: dict[str, Float32]) -> None:
        loop = asyncio.get_running_loop()
        halves = await loop.run_in_executor(self._workers, to_half, masks)
        for mask_id, array in halves.items():
            self._held[tenant, image_id, mask_id] = array
        try:
            await self._cache.put_masks(tenant, image_id, halves)
            self._away = False
        except CacheUnavailable:
            self._away = True

    async def recall(
        self, tenant: str, image_id: str, model: PromptableModel, mask_id: str, field: str
    ) -> Float32:
        """Raises MaskNotFound also where the mask belongs to another model; CacheUnavailable."""
        if not mask_id.startswith(f"{model.bundle.digest[:12]}-"):
            raise MaskNotFound(mask_id, field)
        held = self._held.get((tenant, image_id, mask_id))
        if held is None:
            held = await self._cache.get_mask(tenant, image_id, mask_id)
        if held is None:  # another replica may have answered with it this very moment
            await asyncio.sleep(WRITE_S)
            held = await self._cache.get_mask(tenant, image_id, mask_id)
        if held is None:
            raise MaskNotFound(mask_id, field)
        return held.astype(np.float16).astype(np.float32)

    def forget(self, tenant: str, image_id: str) -> None:
        for key in [k for k in self._held if k[:2] == (tenant, image_id)]:
            self._held.pop(key, None)


def new_mask_id(model: PromptableModel, region: Region | None) -> str:
    place = [] if region is None else [large_images.format_region(region)]
    return "-".join([model.bundle.digest[:12], *place, secrets.token_hex(12)])


def to_half(masks: dict[str, Float32]) -> dict[str, Float16]:
    return {mask_id: logits.astype(np.float16) for mask_id, logits in masks.items()}


class PromptSegmenter:
    """workers: the `worker_count` threads that decode; each prompt is one piece of work. places: who may decode
    or wait for it."""

    def __init__(
        self,
        registry: ModelRegistry,
        embeddings: Embeddings,
        masks: MaskCache,
        workers: Executor,
        metrics: Metrics,
        *,
        threads: int,
        click_limit: ClickLimit,
    ) -> None:
        self._threads, self._click_limit = threads, click_limit
        self._registry, self._embeddings, self._masks = registry, embeddings, masks
        self._workers, self._metrics = workers, metrics

    async def segment(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        prompts: list[Prompt],
        *,
        multimask: bool | None,
        select: Select,
        render: Callable[[Candidate], Rendered],
        timings: Timings,
    ) -> SegmentResult[Rendered]:
        """`render` turns a mask into what the caller wants of it, in the thread that decoded it.

        Raises NotFound (image, model, mask), BadInput (a prompt that the image cannot have), Unavailable.
        """
        start = time.perf_counter()
        model = await self._registry.get(model_name, PromptableModel)
        # Checked before the image is encoded: a prompt that cannot be should not wait for that.
        extent = await self._embeddings.get_extent(tenant, image_id, model)
        size = extent.size
        prompts = [check_prompt(p, size, model, f"prompts.{i}") for i, p in enumerate(prompts)]
        asked = [await self._look(tenant, image_id, model, extent, p, i) for i, p in enumerate(prompts)]
        regions = [each.region for each in asked]

        async def answer(region: Region | None) -> list[list[tuple[Candidate, Rendered]]]:
            image = await self._embeddings.get_prepared(tenant, image_id, model, timings, region=region)

            def work(prompt: Prompt) -> list[tuple[Candidate, Rendered]]:
                found = decode_prompt(model, image, prompt, multimask, select, timings)
                if region is not None:
                    found = [large_images.move_to_image(candidate, region, size) for candidate in found]
                with timings.stage("format"):
                    return [(candidate, render(candidate)) for candidate in found]

            here = [each.prompt for each in asked if each.region == region]
            with self._click_limit.slot(len(here)):
                return await self._in_turn(work, here)

        by_region = {region: iter(await answer(region)) for region in dict.fromkeys(regions)}
        answers = [next(by_region[region]) for region in regions]
        with timings.stage("remember"):
            logits = [candidate.logits for found in answers for candidate, _ in found]
            places = [region for region, found in zip(regions, answers, strict=True) for _ in found]
            ids = iter(await self._masks.keep(tenant, image_id, model, logits, places))
        self._metrics.clicks.count_masks(model.name, len(logits))
        self._metrics.clicks.record(embedding_source(timings), time.perf_counter() - start)
        results = [
            [MaskResult(candidate, rendered, next(ids)) for candidate, rendered in found] for found in answers
        ]
        return SegmentResult(image_id, model.name, size, results)

    async def _in_turn(self, work: Callable[[Prompt], Answer], prompts: list[Prompt]) -> list[Answer]:
        """All prompts of a request, no more at once than there are workers: a request of hundreds does not
        stand before everybody else's single click."""
        loop, turn = asyncio.get_running_loop(), asyncio.Semaphore(self._threads)

        async def one(prompt: Prompt) -> Answer:
            async with turn:
                return await loop.run_in_executor(self._workers, work, prompt)

        return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))

    async def _look(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        extent: ImageExtent,
        prompt: Prompt,
        index: int,
    ) -> "RegionPrompt":
        field, prior = f"prompts.{index}", prompt.logits
        if prompt.mask_id is not None:
            prior = await self._masks.recall(tenant, image_id, model, prompt.mask_id, f"{field}.mask_id")
        elif prior is not None and extent.tiled:
            raise large_images.logits_refusal(f"{field}.logits")
        asked = replace(prompt, logits=prior, mask_id=None)
        if not extent.tiled:
            return RegionPrompt(asked, None)
        earlier = prompt.mask_id and large_images.parse_region(prompt.mask_id)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._workers, move_prompt_to_region, asked, earlier or None, extent.size, model, field
        )


@dataclass(frozen=True)
class RegionPrompt:
    """A prompt, in pixels of the region in which its object is looked for; None is the image."""

    prompt: Prompt
    region: Region | None


def move_prompt_to_region(
    prompt: Prompt, earlier: Region | None, size: Size, model: PromptableModel, field: str
) -> RegionPrompt:
    """earlier: of the prompt's logits. Raises TooLarge."""
    region = large_images.choose_region(prompt, earlier, size, model.manifest, field)
    logits = prompt.logits
    if logits is not None and earlier is not None:
        logits = large_images.move_logits(logits, earlier, region, model.manifest)
    return RegionPrompt(replace(large_images.move_to_region(prompt, region), logits=logits), region)


def embedding_source(timings: Timings) -> str:
    """Where the embedding was found, told by the stages that were gone through."""
    if "encode" in timings.seconds or "wait" in timings.seconds:
        return "encoded"
    return "redis" if "cache" in timings.seconds else "process"


def check_prompt(prompt: Prompt, size: Size, model: PromptableModel, field: str) -> Prompt:
    """Does the prompt lie on the image, and is it one for the model? Raises BadInput naming the field."""
    check_prompt_coordinates(prompt, size, field)
    low = model.manifest.dims.low
    if prompt.logits is not None and prompt.logits.shape != (low, low):
        raise BadInput(
            f"The logits are {prompt.logits.shape}.",
            field=f"{field}.logits",
            remedy=f"Model {model.name!r} takes low-res logits of {low} x {low}.",
        )
    return prompt


def check_prompt_coordinates(prompt: Prompt, size: Size, field: str) -> None:
    """Do points, box and mask lie on the image? Raises BadInput naming the field."""
    remedy = f"Coordinates are pixels of the original image, which is {size.width} x {size.height}, origin top left."
    corners = [] if prompt.box is None else [(prompt.box.x0, prompt.box.y0), (prompt.box.x1, prompt.box.y1)]
    for name, points in (("points", prompt.points.tolist()), ("box", corners)):
        for index, (x, y) in enumerate(points):
            if not (0 <= x <= size.width and 0 <= y <= size.height):
                where = f"{field}.{name}.{index}" if name == "points" else f"{field}.box"
                raise BadInput(f"({x:g}, {y:g}) lies outside the image.", field=where, remedy=remedy)
    if prompt.mask is not None:
        check_mask_size(prompt.mask.shape, size, f"{field}.mask")
