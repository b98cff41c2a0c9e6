"""Whole images without prompts: from an image id to all its objects."""

from collections.abc import Awaitable, Callable

from segserve.automatic import stitch_tiles
from segserve.automatic.ais_map_cache import AisMapCache, decode_maps, unpack_maps
from segserve.automatic.ais_watershed import resize_maps, segment_by_watershed
from segserve.automatic.amg_generator import AmgGenerator
from segserve.automatic.parameters import AisParams, resolve_ais_params, resolve_amg_params
from segserve.automatic.point_grids import check_grid_limits
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

MAX_PIXELS = 64_000_000  # of an image in one piece: its maps and labels take some 40 bytes a pixel meanwhile


class AutomaticSegmenter:
    """One method for each way to find an image's objects. turns: where the work on whole images is done.
    max_tiles: of a large image, which is segmented tile by tile; None: as many as it has."""

    def __init__(
        self,
        registry: ModelRegistry,
        embeddings: Embeddings,
        maps: AisMapCache,
        amg: AmgGenerator,
        turns: BoundedExecutor,
        metrics: Metrics,
        *,
        max_tiles: int | None,
    ) -> None:
        self._registry, self._embeddings = registry, embeddings
        self._maps, self._amg = maps, amg
        self._turns, self._metrics, self._max_tiles = turns, metrics, max_tiles

    async def segment_ais(
        self, tenant: str, image_id: str, model_name: str, given: AisEntry, timings: Timings
    ) -> ImageObjects:
        """Objects without scores, none overlapping. Raises NotFound (image, model), NoAutomaticDecoder,
        WrongModel, TooLarge, Unavailable."""
        model = await self._registry.get(model_name, PromptableModel)
        if not model.has_ais_decoder:
            raise NoAutomaticDecoder(model.name)
        extent = await self._embeddings.get_extent(tenant, image_id, model)
        params = resolve_ais_params(model.manifest, given)

        async def find(region: Region | None) -> list[SegmentedObject]:
            maps = await self._maps.get(tenant, image_id, model, timings, region)
            size = extent.size if region is None else region.size
            return await self._turns.run(find_objects_by_ais, maps, model.manifest, size, params, timings)

        objects = await self._over(extent, model, find)
        self._metrics.whole_images.count_objects(model.name, "ais", len(objects))
        return ImageObjects(image_id, model.name, extent.size, objects)

    async def segment_amg(
        self, tenant: str, image_id: str, model_name: str, given: AmgEntry, timings: Timings
    ) -> ImageObjects:
        """Objects scored by their predicted IoU; they may overlap, but for those of a large image. Raises NotFound
        (image, model), WrongModel, BadInput (a grid that cannot be), TooLarge, Unavailable."""
        model = await self._registry.get(model_name, PromptableModel)
        extent = await self._embeddings.get_extent(tenant, image_id, model)
        params = resolve_amg_params(model.manifest, given)
        if extent.tiled:
            check_grid_limits([each.outer.size for each in self._tiles(extent, model)], params)

        async def find(region: Region | None) -> list[SegmentedObject]:
            masks = await self._amg.generate(tenant, image_id, model, params, timings, region)
            return [SegmentedObject(each.crop, each.predicted_iou) for each in masks]

        objects = await self._over(extent, model, find)
        self._metrics.whole_images.count_objects(model.name, "amg", len(objects))
        return ImageObjects(image_id, model.name, extent.size, objects)

    async def _over(
        self,
        extent: ImageExtent,
        model: PromptableModel,
        find: Callable[[Region | None], Awaitable[list[SegmentedObject]]],
    ) -> list[SegmentedObject]:
        """What `find` finds on the image, or tile by tile on a large one. Raises TooLarge."""
        if not extent.tiled:
            check_image_size(extent.size)
            return await find(None)
        return await stitch_tiles.segment_tiles(self._tiles(extent, model), find, self._turns)

    def _tiles(self, extent: ImageExtent, model: PromptableModel) -> TileGrid:
        return stitch_tiles.make_tiles(extent.size, model.preprocess.input_size, self._max_tiles)


def find_objects_by_ais(
    maps: UInt16, manifest: PromptableManifest, size: Size, params: AisParams, timings: Timings
) -> list[SegmentedObject]:
    with timings.stage("postprocess"):
        found = segment_by_watershed(resize_maps(unpack_maps(maps), manifest, size), params)
        return [SegmentedObject(crop) for crop in label_map.to_crops(found)]


def label_by_ais(
    model: PromptableModel, embedding: Embedding, size: Size, given: AisEntry, timings: Timings
) -> label_map.Labels:
    """The label map [H, W] of an image that is stored nowhere. Blocks. Raises NoAutomaticDecoder."""
    if not model.has_ais_decoder:
        raise NoAutomaticDecoder(model.name)
    maps = unpack_maps(decode_maps(model, embedding, timings))
    with timings.stage("postprocess"):
        return segment_by_watershed(
            resize_maps(maps, model.manifest, size), resolve_ais_params(model.manifest, given)
        )


def check_image_size(size: Size) -> None:
    """Raises TooLarge."""
    if (pixels := size.height * size.width) > MAX_PIXELS:
        raise TooLarge(
            f"The image has {pixels // 1_000_000} megapixels; up to {MAX_PIXELS // 1_000_000} are segmented"
            " in one piece.",
            field="image_id",
            remedy="Send a smaller image, or parts of it.",
        )
