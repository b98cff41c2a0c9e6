"""The search for objects like the examples, from image ids and prompts to `ImageObjects`."""

from concurrent.futures import Executor

import numpy as np

from segserve.automatic.segmenter import check_image_size
from segserve.bounded_executor import BoundedExecutor
from segserve.encode.embeddings import Embeddings, ImageExtent
from segserve.masks import crop as crops
from segserve.metrics import Metrics
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.similar.examples import (
    ExampleRegion,
    ExampleSet,
    cut_to_region,
    describe_examples,
    median_diameter,
    to_low,
)
from segserve.similar.hints import NOTHING_STANDS_OUT, find_hints
from segserve.similar.merge_objects import has_middle_in, merge_objects, move_to_image, touches_cut
from segserve.similar.options import SimilarOptions
from segserve.similar.plan_regions import SearchPart, choose_region, plan_regions
from segserve.similar.resolve_examples import ExampleResolver
from segserve.similar.search_region import RegionSearch, SimilarObject
from segserve.timing import Timings
from segserve.types import (
    Bool,
    Crop,
    ImageObjects,
    Priority,
    Prompt,
    Region,
    SegmentedObject,
    Size,
    UsageKind,
)

# Clicks decoded at a time: between batches other work on whole images may run.
CLICKS_PER_BATCH = 32


class SimilarSegmenter:
    """`SimilarSegmenter` finds the objects of an image that are like examples.

    executor: runs the search as work on whole images. A request holds one slot, and runs in pieces.
    decode_threads: decode the clicks of a batch, one per thread.
    max_tiles: of an image that is searched tile by tile; None is no limit.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        embeddings: Embeddings,
        resolver: ExampleResolver,
        executor: BoundedExecutor,
        decode_threads: Executor,
        metrics: Metrics,
        *,
        max_tiles: int | None,
    ) -> None:
        self._registry, self._embeddings, self._resolver = registry, embeddings, resolver
        self._executor, self._decode_threads = executor, decode_threads
        self._metrics, self._max_tiles = metrics, max_tiles

    async def find(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        example_image_id: str,
        examples: list[Prompt],
        options: SimilarOptions,
        timings: Timings,
    ) -> ImageObjects:
        """Return the objects like the examples, by descending likeness, after the examples if those are wanted.

        image_id: of the image that is searched. example_image_id: of the image that the examples are on.

        Raises NotFound (image, model, mask), WrongModel, BadInput (an example that does not fit its image, or is
        empty), TooLarge, Unavailable.
        """
        model = await self._registry.get(model_name, PromptableModel)
        extent = await self._embeddings.get_extent(tenant, image_id, model)
        if not extent.tiled:
            check_image_size(extent.size)
        is_same = example_image_id == image_id
        example_extent = (
            extent if is_same else await self._embeddings.get_extent(tenant, example_image_id, model)
        )
        masks = await self._resolver.resolve(
            tenant, example_image_id, model, example_extent, examples, timings
        )
        diameter = median_diameter([crops.area(mask) for mask in masks])
        parts = plan_regions(extent, model.manifest, diameter, max_tiles=self._max_tiles)
        with self._executor.slot():
            known = await self._describe(tenant, example_image_id, model, example_extent, masks, timings)
            if known is None:
                return ImageObjects(image_id, model.name, extent.size, [], hints=(NOTHING_STANDS_OUT,))
            own = masks if is_same else []
            found: list[SimilarObject] = []
            shares: list[float] = []
            held_bytes = 0
            for part in parts:
                objects, share = await self._search_part(
                    tenant, image_id, model, extent, part, own, known, options, held_bytes, timings
                )
                found += objects
                shares.append(share)
                held_bytes += sum(item.crop.pixels.size for item in objects)
                if len(found) >= options.max_objects:
                    break
            merged = await self._executor.run_in_slot(merge_objects, own, found, options.max_objects)
        self._metrics.whole_images.count_objects(model.name, "similar", len(merged))
        self._metrics.usage.count(tenant, UsageKind.SIMILAR_IMAGES)
        shown = (
            [SegmentedObject(mask, likeness=1.0, is_example=True) for mask in own]
            if options.include_examples
            else []
        )
        shown += [SegmentedObject(item.crop, item.score, likeness=item.likeness) for item in merged]
        hints = find_hints(known, options, float(np.mean(shares)), len(merged))
        return ImageObjects(image_id, model.name, extent.size, shown, hints=hints)

    async def _describe(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        extent: ImageExtent,
        masks: list[Crop],
        timings: Timings,
    ) -> ExampleSet | None:
        """Return what is known of the examples, each on a region of the scale at which images are searched."""
        diameter = median_diameter([crops.area(mask) for mask in masks])
        by_region: dict[Region | None, list[Crop]] = {}
        for mask in masks:
            by_region.setdefault(choose_region(extent, model.manifest, diameter, mask), []).append(mask)
        regions = []
        for region, region_masks in by_region.items():
            image = await self._embeddings.get_prepared(
                tenant, image_id, model, timings, None if region is None else Priority.BATCH, region
            )
            regions.append(ExampleRegion(image, [cut_to_region(mask, region) for mask in region_masks]))
        return await self._executor.run_in_slot(describe_examples, regions, model.manifest)

    async def _search_part(
        self,
        tenant: str,
        image_id: str,
        model: PromptableModel,
        extent: ImageExtent,
        part: SearchPart,
        own: list[Crop],
        known: ExampleSet,
        options: SimilarOptions,
        held_bytes: int,
        timings: Timings,
    ) -> tuple[list[SimilarObject], float]:
        """Return the objects of a part, in pixels of the image, and the share of it that is like the examples.

        own: the examples, if they are on this image. held_bytes: of the masks of earlier parts.
        """
        region = part.outer
        image = await self._embeddings.get_prepared(
            tenant, image_id, model, timings, None if region is None else Priority.BATCH, region
        )
        taken = await self._executor.run_in_slot(draw_taken, own, region, model)
        search = RegionSearch(model, image, known, options, taken, held_bytes)
        for _ in range(options.rounds):
            points = await self._executor.run_in_slot(search.begin_round)
            candidates: list[SimilarObject | None] = []
            for start in range(0, len(points), CLICKS_PER_BATCH):
                candidates += await self._executor.run_in_slot(
                    self._decode_batch, search, points[start : start + CLICKS_PER_BATCH], timings
                )
            if not await self._executor.run_in_slot(search.end_round, candidates):
                break
        objects = await self._executor.run_in_slot(collect_objects, search.found, part, extent.size)
        return objects, search.similar_share

    def _decode_batch(
        self, search: RegionSearch, points: list[tuple[float, float]], timings: Timings
    ) -> list[SimilarObject | None]:
        with timings.stage("decode"):
            return list(self._decode_threads.map(search.decode, points))


def collect_objects(found: list[SimilarObject], part: SearchPart, size: Size) -> list[SimilarObject]:
    """Return the objects that belong to a part, in pixels of the image of this size."""
    moved = [move_to_image(item, part.outer, size) for item in found]
    return [
        item
        for item in moved
        if has_middle_in(item.crop, part.inner) and not touches_cut(item.crop, part.outer)
    ]


def draw_taken(masks: list[Crop], region: Region | None, model: PromptableModel) -> Bool:
    """Return which low-res pixels of a region are on the examples, [low, low]."""
    low = model.manifest.dims.low
    taken: Bool = np.zeros((low, low), np.bool_)
    for mask in masks:
        part = cut_to_region(mask, region)
        if part.pixels.any():
            taken |= to_low(part, model.manifest)
    return taken
