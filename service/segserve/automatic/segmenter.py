"""Automatic segmentation of a stored image: from an image id to all its objects, by AIS or AMG."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np

from segserve.automatic.ais_map_cache import AisMapCache, decode_maps, unpack_maps
from segserve.automatic.ais_watershed import resize_maps, segment_by_watershed
from segserve.automatic.amg_generator import AmgGenerator
from segserve.automatic.image_scale import (
    MAX_SCALE,
    MAX_WHOLE_INPUTS,
    MIN_GAIN,
    TILED_SCALE,
    Observation,
    ScaleRequest,
    check_room,
    estimated_scale,
    fit_scale,
    foreground_certainty,
    join_observations,
    lay_out,
    observe,
    requested_scale,
    sample_windows,
    window_side,
)
from segserve.automatic.parameters import AisParams, resolve_ais_params, resolve_amg_params
from segserve.automatic.point_grids import check_grid_limits
from segserve.automatic.select_objects import select_objects, sort_objects
from segserve.automatic.stitch_tiles import check_tile_count, segment_tiles
from segserve.bounded_executor import BoundedExecutor
from segserve.encode.embeddings import Embeddings, ImageExtent
from segserve.errors import NoAutomaticDecoder, TooLarge
from segserve.images.tiling import TileGrid
from segserve.masks import label_map
from segserve.masks.crop import trim_crop
from segserve.metrics import Metrics
from segserve.models.manifest import AisEntry, AmgEntry, PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.timing import Timings
from segserve.types import (
    Crop,
    Embedding,
    Float32,
    ImageObjects,
    ImageScale,
    Region,
    SegmentedObject,
    Size,
    UInt16,
    UsageKind,
)

NO_SCALE = ScaleRequest()
MAX_PIXELS = 64_000_000  # of an image that is not tiled: its maps and labels take some 40 bytes a pixel


class AutomaticSegmenter:
    """`AutomaticSegmenter` finds all objects of an image, with one method for AIS and one for AMG.

    executor: runs the work on whole images.
    max_tiles: of a large image, which is segmented tile by tile; None is no limit.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        embeddings: Embeddings,
        maps: AisMapCache,
        amg: AmgGenerator,
        executor: BoundedExecutor,
        metrics: Metrics,
        *,
        max_tiles: int | None,
    ) -> None:
        self._registry, self._embeddings = registry, embeddings
        self._maps, self._amg = maps, amg
        self._executor, self._metrics, self._max_tiles = executor, metrics, max_tiles

    async def segment_ais(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        request: AisEntry,
        timings: Timings,
        *,
        scale: ScaleRequest = NO_SCALE,
        raw: bool = False,
    ) -> ImageObjects:
        """Return the objects by AIS: without scores, none overlapping.

        scale: what the request says about the scale; it is estimated otherwise.
        raw: in the order of micro-sam's labels instead of reading order, and with no estimated scale.

        Raises NotFound (image, model), NoAutomaticDecoder, WrongModel, BadInput (an impossible scale), TooLarge,
        Unavailable.
        """
        model = await self._registry.get(model_name, PromptableModel)
        if not model.has_ais_decoder:
            raise NoAutomaticDecoder(model.name)
        image = ImageOfModel(
            tenant, image_id, await self._embeddings.get_extent(tenant, image_id, model), model
        )
        params = resolve_ais_params(model.manifest, request)
        chosen = await self._choose_scale(image, scale, params, timings, raw=raw)
        certainties: list[float] = []

        async def segment_region(region: Region | None) -> list[SegmentedObject]:
            maps = await self._maps.get(tenant, image_id, model, timings, region)
            size = image.size if region is None else region.size
            objects, certainty = await self._executor.run(
                find_ais_objects,
                maps,
                model.manifest,
                size,
                visible_size(region, image.size),
                params,
                timings,
            )
            if objects:
                certainties.append(certainty)
            return objects

        objects = await self._segment(image, self._lay_out(image, chosen, raw=raw), segment_region)
        self._metrics.whole_images.count_objects(model.name, "ais", len(objects))
        self._metrics.usage.count(tenant, UsageKind.AUTOMATIC_IMAGES)
        objects = objects if raw else await self._executor.run(sort_objects, objects)
        certainty = float(np.median(certainties)) if certainties else None
        return ImageObjects(image_id, model.name, image.size, objects, scale=chosen, certainty=certainty)

    async def segment_amg(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        request: AmgEntry,
        timings: Timings,
        *,
        scale: ScaleRequest = NO_SCALE,
        raw: bool = False,
    ) -> ImageObjects:
        """Return the objects by AMG, scored by their predicted IoU. They may overlap, except on a tiled image.

        scale: what the request says about the scale; it is estimated otherwise.
        raw: all masks of segment-anything's generator, in its order (see `select_objects.py`), and with no estimated
            scale.

        Raises NotFound (image, model), WrongModel, BadInput (an impossible grid or scale), TooLarge, Unavailable.
        """
        model = await self._registry.get(model_name, PromptableModel)
        image = ImageOfModel(
            tenant, image_id, await self._embeddings.get_extent(tenant, image_id, model), model
        )
        params = resolve_amg_params(model.manifest, request)
        chosen = await self._choose_scale(
            image, scale, resolve_ais_params(model.manifest, AisEntry()), timings, raw=raw
        )
        layout = self._lay_out(image, chosen, raw=raw)
        if isinstance(layout, TileGrid):
            check_grid_limits([tile.outer.size for tile in layout], params)

        async def segment_region(region: Region | None) -> list[SegmentedObject]:
            masks = await self._amg.generate(tenant, image_id, model, params, timings, region)
            objects = [SegmentedObject(mask.crop, mask.predicted_iou) for mask in masks]
            if (visible := visible_size(region, image.size)) is not None:
                objects = [item for each in objects if (item := cut_object(each, visible)) is not None]
            if raw:
                return objects
            size = visible or (image.size if region is None else region.size)
            return await self._executor.run(select_objects, objects, size)

        objects = await self._segment(image, layout, segment_region)
        if isinstance(layout, TileGrid) and not raw:
            objects = await self._executor.run(sort_objects, objects)
        self._metrics.whole_images.count_objects(model.name, "amg", len(objects))
        self._metrics.usage.count(tenant, UsageKind.AUTOMATIC_IMAGES)
        return ImageObjects(image_id, model.name, image.size, objects, join_crumbs=not raw, scale=chosen)

    async def _choose_scale(
        self, image: "ImageOfModel", request: ScaleRequest, params: AisParams, timings: Timings, *, raw: bool
    ) -> ImageScale | None:
        """Return the scale that was requested, or the estimated one; None for a model that none is known of."""
        manifest = image.model.manifest
        requested = requested_scale(request, manifest)
        if requested is not None or raw or manifest.object_size is None or not image.model.has_ais_decoder:
            return requested
        fitting = fit_scale(image.size, image.input_size)
        if fitting > MAX_SCALE:
            return ImageScale(MAX_SCALE, None, f"an image is enlarged at most {MAX_SCALE:g} times")
        if fitting >= 1:
            return ImageScale(fitting, None, "the image fills the model's input")
        return await self._estimate_scale(image, fitting, manifest.object_size, params, timings)

    async def _estimate_scale(
        self, image: "ImageOfModel", fitting: float, best: float, params: AisParams, timings: Timings
    ) -> ImageScale:
        """Look at the image as a whole, then at windows twice as fine, until objects are seen clearly.

        best: the size of objects that the model knows best, in pixels of the input.
        """

        async def look(scale: float) -> Observation:
            regions: list[Region | None] = [image.whole]
            if scale > fitting:
                regions = [*sample_windows(image.size, window_side(scale, image.input_size))]
            parts = []
            for region in regions:
                maps = await self._maps.get(image.tenant, image.image_id, image.model, timings, region)
                size = image.size if region is None else region.size
                parts.append(
                    await self._executor.run(
                        observe_region, maps, image.model.manifest, size, params, timings
                    )
                )
            return join_observations(parts)

        scale = floor = fitting if fitting * MAX_WHOLE_INPUTS >= 1 else TILED_SCALE
        seen = await look(scale)
        while scale < MAX_SCALE and not seen.is_reliable(scale):
            finer = min(2 * scale, MAX_SCALE)
            seen_finer = await look(finer)
            if seen_finer.density <= MIN_GAIN * seen.density:
                break
            scale, seen = finer, seen_finer
        if scale > floor:
            return estimated_scale(seen, scale, floor, best)
        why = "objects are seen well" if seen.is_reliable(scale) else "a closer look found no more objects"
        return ImageScale(scale, seen.object_size or None, why)

    def _lay_out(
        self, image: "ImageOfModel", scale: ImageScale | None, *, raw: bool
    ) -> TileGrid | Region | None:
        """Return what is encoded; see `image_scale.lay_out`. Raises TooManyTiles, TooLarge, BadInput."""
        by_storage = image.extent.tiled if raw else None
        number = None if scale is None else scale.scale
        layout = lay_out(image.size, image.input_size, number, by_storage=by_storage)
        if isinstance(layout, TileGrid):
            check_tile_count(layout, self._max_tiles, image.input_size)
        else:
            check_image_size(image.size)
            if layout is not None:
                check_room(layout, image.size, image.input_size, MAX_PIXELS)
        return image.whole if layout is None else layout

    async def _segment(
        self,
        image: "ImageOfModel",
        layout: TileGrid | Region | None,
        segment_region: Callable[[Region | None], Awaitable[list[SegmentedObject]]],
    ) -> list[SegmentedObject]:
        """Segment the image in one piece, or tile by tile.

        segment_region: returns the objects of a region; of the whole image for None.
        """
        if isinstance(layout, TileGrid):
            return await segment_tiles(layout, segment_region, self._executor)
        return await segment_region(layout)


@dataclass(frozen=True)
class ImageOfModel:
    """A stored image, and the model that segments it."""

    tenant: str
    image_id: str
    extent: ImageExtent
    model: PromptableModel

    @property
    def size(self) -> Size:
        return self.extent.size

    @property
    def input_size(self) -> int:
        return self.model.preprocess.input_size

    @property
    def whole(self) -> Region | None:
        """The region to encode for all of the image."""
        return Region(0, 0, self.size.width, self.size.height) if self.extent.tiled else None


def visible_size(region: Region | None, image: Size) -> Size | None:
    """Return the size of the part of a region that lies on the image; None if that is all of it."""
    if region is None or region.lies_in(image):
        return None
    return region.clip(image).size


def cut_object(item: SegmentedObject, size: Size) -> SegmentedObject | None:
    """Return the part of an object that lies in the top left part, of `size`, of its image; None if there is none."""
    crop = item.crop
    pixels = crop.pixels[: max(0, size.height - crop.y), : max(0, size.width - crop.x)]
    return replace(item, crop=trim_crop(Crop(pixels, crop.x, crop.y, size))) if pixels.any() else None


def observe_region(
    maps: UInt16, manifest: PromptableManifest, size: Size, params: AisParams, timings: Timings
) -> Observation:
    """Return what AIS finds in an image or region of `size`, from its packed maps [3, h, h]."""
    with timings.stage("postprocess"):
        resized = resize_maps(unpack_maps(maps), manifest, size)
        return observe(resized, segment_by_watershed(resized, params))


def find_ais_objects(
    maps: UInt16,
    manifest: PromptableManifest,
    size: Size,
    visible: Size | None,
    params: AisParams,
    timings: Timings,
) -> tuple[list[SegmentedObject], float]:
    """Return the objects of an image or region of `size` from its packed AIS maps [3, h, h], and their certainty.

    visible: the part of it, from its top left corner, that is on the image; None if it is all of it.
    """
    with timings.stage("postprocess"):
        visible_maps = resize_visible(unpack_maps(maps), manifest, size, visible)
        labels = segment_by_watershed(visible_maps, params)
        objects = [SegmentedObject(crop) for crop in label_map.to_crops(labels)]
        return objects, foreground_certainty(visible_maps)


def label_by_ais(
    model: PromptableModel,
    embedding: Embedding,
    size: Size,
    request: AisEntry,
    timings: Timings,
    visible: Size | None = None,
) -> label_map.Labels:
    """Return the label map [H, W] by AIS of an image that is not stored, for example a slice of a volume.

    size: of what was encoded. visible: the part of it, from its top left corner, that is the image; None: all of it.

    Blocks. Raises NoAutomaticDecoder.
    """
    if not model.has_ais_decoder:
        raise NoAutomaticDecoder(model.name)
    maps = unpack_maps(decode_maps(model, embedding, timings))
    with timings.stage("postprocess"):
        params = resolve_ais_params(model.manifest, request)
        return segment_by_watershed(resize_visible(maps, model.manifest, size, visible), params)


def resize_visible(maps: Float32, manifest: PromptableManifest, size: Size, visible: Size | None) -> Float32:
    """Return the maps [3, H, W] of an image, from those of what was encoded, [3, h, h], as `label_by_ais` has them."""
    resized = resize_maps(maps, manifest, size)
    return resized if visible is None else np.ascontiguousarray(resized[:, : visible.height, : visible.width])


def check_image_size(size: Size) -> None:
    """Raise TooLarge if an image of `size` is too large to be segmented in one piece."""
    if (pixels := size.height * size.width) > MAX_PIXELS:
        raise TooLarge(
            f"The image has {pixels // 1_000_000} megapixels; up to {MAX_PIXELS // 1_000_000} are segmented"
            " in one piece.",
            field="image_id",
            remedy="Send a smaller image, or parts of it.",
        )
