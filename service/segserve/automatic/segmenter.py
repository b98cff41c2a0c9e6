"""Automatic segmentation of a stored image: from an image id to all its objects, by AIS or AMG."""

from collections.abc import Awaitable, Callable

from segserve.automatic.ais_map_cache import AisMapCache, decode_maps, unpack_maps
from segserve.automatic.ais_watershed import resize_maps, segment_by_watershed
from segserve.automatic.amg_generator import AmgGenerator
from segserve.automatic.parameters import AisParams, resolve_ais_params, resolve_amg_params
from segserve.automatic.point_grids import check_grid_limits
from segserve.automatic.select_objects import select_objects, sort_objects
from segserve.automatic.stitch_tiles import make_tiles, segment_tiles
from segserve.bounded_executor import BoundedExecutor
from segserve.encode.embeddings import Embeddings, ImageExtent
from segserve.errors import NoAutomaticDecoder, TooLarge
from segserve.images.tiling import TileGrid
from segserve.masks import label_map
from segserve.metrics import Metrics
from segserve.models.manifest import AisEntry, AmgEntry, PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry
from segserve.timing import Timings
from segserve.types import Embedding, ImageObjects, Region, SegmentedObject, Size, UInt16

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
        raw: bool = False,
    ) -> ImageObjects:
        """Return the objects by AIS: without scores, none overlapping.

        raw: in the order of micro-sam's labels instead of reading order.

        Raises NotFound (image, model), NoAutomaticDecoder, WrongModel, TooLarge, Unavailable.
        """
        model = await self._registry.get(model_name, PromptableModel)
        if not model.has_ais_decoder:
            raise NoAutomaticDecoder(model.name)
        extent = await self._embeddings.get_extent(tenant, image_id, model)
        params = resolve_ais_params(model.manifest, request)

        async def segment_region(region: Region | None) -> list[SegmentedObject]:
            maps = await self._maps.get(tenant, image_id, model, timings, region)
            size = extent.size if region is None else region.size
            return await self._executor.run(find_ais_objects, maps, model.manifest, size, params, timings)

        objects = await self._segment(extent, model, segment_region)
        self._metrics.whole_images.count_objects(model.name, "ais", len(objects))
        objects = objects if raw else await self._executor.run(sort_objects, objects)
        return ImageObjects(image_id, model.name, extent.size, objects)

    async def segment_amg(
        self,
        tenant: str,
        image_id: str,
        model_name: str,
        request: AmgEntry,
        timings: Timings,
        *,
        raw: bool = False,
    ) -> ImageObjects:
        """Return the objects by AMG, scored by their predicted IoU. They may overlap, except on a large image.

        raw: all masks of segment-anything's generator, in its order; see `select_objects.py`.

        Raises NotFound (image, model), WrongModel, BadInput (an impossible grid), TooLarge, Unavailable.
        """
        model = await self._registry.get(model_name, PromptableModel)
        extent = await self._embeddings.get_extent(tenant, image_id, model)
        params = resolve_amg_params(model.manifest, request)
        if extent.tiled:
            check_grid_limits([tile.outer.size for tile in self._tiles(extent, model)], params)

        async def segment_region(region: Region | None) -> list[SegmentedObject]:
            masks = await self._amg.generate(tenant, image_id, model, params, timings, region)
            objects = [SegmentedObject(mask.crop, mask.predicted_iou) for mask in masks]
            size = extent.size if region is None else region.size
            return objects if raw else await self._executor.run(select_objects, objects, size)

        objects = await self._segment(extent, model, segment_region)
        if extent.tiled and not raw:
            objects = await self._executor.run(sort_objects, objects)
        self._metrics.whole_images.count_objects(model.name, "amg", len(objects))
        return ImageObjects(image_id, model.name, extent.size, objects, join_crumbs=not raw)

    async def _segment(
        self,
        extent: ImageExtent,
        model: PromptableModel,
        segment_region: Callable[[Region | None], Awaitable[list[SegmentedObject]]],
    ) -> list[SegmentedObject]:
        """Segment the image in one piece, or a large one tile by tile.

        segment_region: returns the objects of a region; of the whole image for None.

        Raises TooLarge.
        """
        if not extent.tiled:
            check_image_size(extent.size)
            return await segment_region(None)
        return await segment_tiles(self._tiles(extent, model), segment_region, self._executor)

    def _tiles(self, extent: ImageExtent, model: PromptableModel) -> TileGrid:
        return make_tiles(extent.size, model.preprocess.input_size, self._max_tiles)


def find_ais_objects(
    maps: UInt16, manifest: PromptableManifest, size: Size, params: AisParams, timings: Timings
) -> list[SegmentedObject]:
    """Return the objects of an image or region of `size` from its packed AIS maps [3, h, h]."""
    with timings.stage("postprocess"):
        labels = segment_by_watershed(resize_maps(unpack_maps(maps), manifest, size), params)
        return [SegmentedObject(crop) for crop in label_map.to_crops(labels)]


def label_by_ais(
    model: PromptableModel, embedding: Embedding, size: Size, request: AisEntry, timings: Timings
) -> label_map.Labels:
    """Return the label map [H, W] by AIS of an image that is not stored, for example a slice of a volume.

    Blocks. Raises NoAutomaticDecoder.
    """
    if not model.has_ais_decoder:
        raise NoAutomaticDecoder(model.name)
    maps = unpack_maps(decode_maps(model, embedding, timings))
    with timings.stage("postprocess"):
        params = resolve_ais_params(model.manifest, request)
        return segment_by_watershed(resize_maps(maps, model.manifest, size), params)


def check_image_size(size: Size) -> None:
    """Raise TooLarge if an image of `size` is too large to be segmented in one piece."""
    if (pixels := size.height * size.width) > MAX_PIXELS:
        raise TooLarge(
            f"The image has {pixels // 1_000_000} megapixels; up to {MAX_PIXELS // 1_000_000} are segmented"
            " in one piece.",
            field="image_id",
            remedy="Send a smaller image, or parts of it.",
        )
