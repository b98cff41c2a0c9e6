"""Whole images without prompts: from an image id to all its objects."""

from dataclasses import replace

from segserve.automatic import ais
from segserve.automatic.ais import AisParams
from segserve.automatic.amg import Amg
from segserve.automatic.grids import AmgParams
from segserve.automatic.maps import Maps, unpack
from segserve.encode.embeddings import Embeddings
from segserve.errors import NoAutomaticDecoder, TooLarge
from segserve.masks import labels
from segserve.metrics import Metrics
from segserve.models.bundle import AisEntry, AmgEntry, PromptableManifest
from segserve.models.model import Model
from segserve.models.registry import Registry
from segserve.timing import Timings
from segserve.turns import Turns
from segserve.types import Found, Object, Size, UInt16

MOST_PIXELS = 64_000_000  # of an image in one piece: its maps and labels take some 40 bytes a pixel meanwhile


class Automatic:
    """One method for each way to find an image's objects. turns: where the work on whole images is done."""

    def __init__(
        self, registry: Registry, embeddings: Embeddings, maps: Maps, amg: Amg, turns: Turns, metrics: Metrics
    ) -> None:
        self._registry, self._embeddings, self._maps, self._amg = registry, embeddings, maps, amg
        self._turns, self._metrics = turns, metrics

    async def ais(
        self, tenant: str, image_id: str, model_name: str, given: AisEntry, timings: Timings
    ) -> Found:
        """Objects without scores, none overlapping. Raises NotFound (image, model), NoAutomaticDecoder,
        WrongModel, TooLarge, Unavailable."""
        model = await self._registry.get(model_name, Model)
        if not model.has_maps:
            raise NoAutomaticDecoder(model.name)
        size = await self._embeddings.size(tenant, image_id, model)
        check_size(size)
        maps = await self._maps.get(tenant, image_id, model, timings)
        params = ais_params(model.manifest, given)
        objects = await self._turns.run(find_by_ais, maps, model.manifest, size, params, timings)
        self._metrics.objects(model.name, "ais", len(objects))
        return Found(image_id, model.name, size, objects)


    async def amg(
        self, tenant: str, image_id: str, model_name: str, given: AmgEntry, timings: Timings
    ) -> Found:
        """Objects scored by their predicted IoU; they may overlap. Raises NotFound (image, model), WrongModel,
        BadInput (a grid that cannot be), TooLarge, Unavailable."""
        model = await self._registry.get(model_name, Model)
        size = await self._embeddings.size(tenant, image_id, model)
        check_size(size)
        params = amg_params(model.manifest, given)
        masks = await self._amg.find(tenant, image_id, model, params, timings)
        self._metrics.objects(model.name, "amg", len(masks))
        return Found(
            image_id, model.name, size, [Object(each.crop, each.predicted_iou) for each in masks]
        )


def amg_params(manifest: PromptableManifest, given: AmgEntry) -> AmgParams:
    """What was given, then what the model's manifest says, then the defaults."""
    of_model = manifest.amg.given() if manifest.amg else {}
    return replace(AmgParams(), **{**of_model, **given.given()})


def ais_params(manifest: PromptableManifest, given: AisEntry) -> AisParams:
    """What was given, then what the model's manifest says, then the defaults."""
    of_model = manifest.ais.given() if manifest.ais else {}
    return replace(AisParams(), **{**of_model, **given.given()})


def find_by_ais(
    maps: UInt16, manifest: PromptableManifest, size: Size, params: AisParams, timings: Timings
) -> list[Object]:
    with timings.stage("postprocess"):
        found = ais.segment(ais.to_image(unpack(maps), manifest, size), params)
        return [Object(crop) for crop in labels.to_crops(found)]


def check_size(size: Size) -> None:
    """Raises TooLarge."""
    if (pixels := size.height * size.width) > MOST_PIXELS:
        raise TooLarge(
            f"The image has {pixels // 1_000_000} megapixels; up to {MOST_PIXELS // 1_000_000} are segmented"
            " in one piece.",
            field="image_id",
            remedy="Send a smaller image, or parts of it.",
        )
