"""Models over folders of images: by the very parts that serve, without the server.

What answers a whole image is one line in METHODS.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import Field, ValidationError

from segserve.app import Service
from segserve.decode.segmenter import decode_prompt
from segserve.errors import BadInput, CacheUnavailable, ImageNotFound
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.ground_truth import FilePair, read_label_map
from segserve.evaluate.iterative_prompting import Predict
from segserve.instances.segmenter import InstanceOptions
from segserve.masks import label_map
from segserve.masks.label_map import Labels
from segserve.models.manifest import AisEntry, AmgEntry, Threshold
from segserve.models.promptable_model import PromptableModel
from segserve.models.strict_schema import StrictSchema
from segserve.semantic.options import SemanticOptions
from segserve.semantic.tta import Flips
from segserve.settings import Settings
from segserve.timing import Timings
from segserve.types import ReadOptions, Select

T = TypeVar("T")
TENANT = "evaluate"  # so that no other service's images are touched
RunMethod = Callable[[Service, str, str, Any], Awaitable[Labels]]


class SemanticParams(StrictSchema):
    """Fields of `segserve.semantic.options.SemanticOptions`."""

    tile: tuple[int, int] | None = None
    overlap: float | None = Field(None, ge=0, le=0.9)
    threshold: float | dict[str, float] | None = None
    tta_flips: Flips = Flips.NONE


class InstanceParams(StrictSchema):
    """Fields of `segserve.instances.segmenter.InstanceOptions`."""

    score_threshold: Threshold | None = None
    nms_threshold: Threshold | None = None
    mask_threshold: Threshold | None = None
    max_objects: int | None = Field(None, ge=1)
    classes: tuple[str, ...] | None = None


async def run_ais(service: Service, image_id: str, model: str, params: AisEntry) -> Labels:
    found = await service.automatic.segment_ais(TENANT, image_id, model, params, service.new_timings())
    return label_map.from_crops([each.crop for each in found.objects], found.size)


async def run_amg(service: Service, image_id: str, model: str, params: AmgEntry) -> Labels:
    found = await service.automatic.segment_amg(TENANT, image_id, model, params, service.new_timings())
    return label_map.from_crops([each.crop for each in found.objects], found.size)


async def run_semantic(service: Service, image_id: str, model: str, params: SemanticParams) -> Labels:
    found, _ = await service.semantic.segment(
        TENANT, image_id, model, SemanticOptions(**dict(params)), render_nothing, service.new_timings()
    )
    return found.values


async def run_instances(service: Service, image_id: str, model: str, params: InstanceParams) -> Labels:
    found, _ = await service.instances.segment(
        TENANT, image_id, model, InstanceOptions(**dict(params)), render_nothing, service.new_timings()
    )
    return label_map.from_crops([each.crop for each in found.objects], found.size)


def render_nothing(found: object, image: object) -> None:
    """What is rendered where a map is all that is wanted."""


@dataclass(frozen=True)
class Method:
    """How a model answers a whole image. run: (service, image_id, model's name, params) -> map [H, W]. params:
    what can be given to it. answers: what the map's values mean."""

    run: RunMethod
    params: type[StrictSchema]
    answers: MapKind


METHODS: dict[str, Method] = {
    "ais": Method(run_ais, AisEntry, MapKind.LABELS),
    "amg": Method(run_amg, AmgEntry, MapKind.LABELS),
    "semantic": Method(run_semantic, SemanticParams, MapKind.CLASSES),
    "instances": Method(run_instances, InstanceParams, MapKind.LABELS),
}


def get_by_name(table: Mapping[str, T], name: str) -> T:
    """What a table of methods has by this name. Raises BadInput."""
    if name not in table:
        raise BadInput(
            f"There is no {name!r} here.", field="--method", remedy=f"Methods: {', '.join(table)}."
        )
    return table[name]


def parse_params(name: str, params: Mapping[str, Any]) -> StrictSchema:
    """What the method's `run` takes. Raises BadInput naming the parameter."""
    accepted = get_by_name(METHODS, name).params
    try:
        return accepted.model_validate_json(orjson.dumps(params))  # as a request's: lists for tuples
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"The parameter {where!r} of {name} cannot be {first['input']!r}: {first['msg']}.",
            field=where,
            remedy=f"Parameters of {name}: {', '.join(accepted.model_fields)}.",
        ) from None


class ModelRunner:
    """Asks one model about the images of a folder, one after another."""

    def __init__(self, service: Service, model: str) -> None:
        self.service, self.model = service, model

    async def add(self, pair: FilePair) -> tuple[str, Labels]:
        """(image_id, the truth's map). Raises BadInput naming the file that is refused."""
        truth = await asyncio.to_thread(read_label_map, pair.truth)
        try:
            with pair.path.open("rb") as file:
                record = await self.service.images.add(TENANT, file, ReadOptions())
        except BadInput as error:
            raise BadInput(f"{pair.path}: {error}", field=str(pair.path)) from None
        return record.image_id, truth

    async def drop(self, image_id: str) -> None:
        """The image and all that was made of it."""
        with suppress(CacheUnavailable, ImageNotFound):
            await self.service.images.delete(TENANT, image_id)

    async def ask(self, image_id: str) -> Predict:
        """What answers prompts on this image, in whichever thread calls it."""
        model = await self.service.registry.get(self.model, PromptableModel)
        if (await self.service.embeddings.get_extent(TENANT, image_id, model)).tiled:
            raise BadInput(
                "An image is so large that prompts are answered tile by tile.",
                field="images",
                remedy="Cut it into parts, or raise SEGSERVE_TILE_FROM_PX.",
            )
        image = await self.service.embeddings.get_prepared(
            TENANT, image_id, model, self.service.new_timings()
        )
        return lambda prompt: decode_prompt(model, image, prompt, None, Select.BEST, Timings())[0]


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncIterator[Service]:
    """A service that keeps the images in memory: they leave nothing behind in its store."""
    service = Service(settings.model_copy(update={"object_store": "memory:///", "quota_mb": 0}))
    await service.start(warm_up=False)
    try:
        yield service
    finally:
        await service.stop()
