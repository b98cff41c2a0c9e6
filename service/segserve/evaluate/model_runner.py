"""Runs one model over the images of a folder, by the parts that serve, without a server.

METHODS names the ways in which a model segments a whole image: AIS, AMG, semantic, instances. Prompts go through
`ModelRunner.build_predictor`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import Field, ValidationError

from segserve.app import Service
from segserve.decode.decode_prompt import decode_prompt
from segserve.errors import BadInput, CacheUnavailable, ImageNotFound, describe_invalid
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.ground_truth import FilePair, read_truth
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
TENANT = "evaluate"  # a tenant of its own, so that the images of no other service are touched
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
    result = await service.automatic.segment_ais(TENANT, image_id, model, params, service.new_timings())
    return label_map.from_objects(result)


async def run_amg(service: Service, image_id: str, model: str, params: AmgEntry) -> Labels:
    result = await service.automatic.segment_amg(TENANT, image_id, model, params, service.new_timings())
    return label_map.from_objects(result)


async def run_semantic(service: Service, image_id: str, model: str, params: SemanticParams) -> Labels:
    class_map, _ = await service.semantic.segment(
        TENANT, image_id, model, SemanticOptions(**dict(params)), render_nothing, service.new_timings()
    )
    return class_map.values


async def run_instances(service: Service, image_id: str, model: str, params: InstanceParams) -> Labels:
    result, _ = await service.instances.segment(
        TENANT, image_id, model, InstanceOptions(**dict(params)), render_nothing, service.new_timings()
    )
    return label_map.from_objects(result)


def render_nothing(result: object, image: object) -> None:
    """Render no picture: scores need the map alone."""


@dataclass(frozen=True)
class SegmentationMethod:
    """A way in which a model segments a whole image.

    run: (service, image_id, name of the model, params) -> map [H, W].
    params: the type of its parameters.
    map_kind: what the map's values mean.
    """

    run: RunMethod
    params: type[StrictSchema]
    map_kind: MapKind


METHODS: dict[str, SegmentationMethod] = {
    "ais": SegmentationMethod(run_ais, AisEntry, MapKind.LABELS),
    "amg": SegmentationMethod(run_amg, AmgEntry, MapKind.LABELS),
    "semantic": SegmentationMethod(run_semantic, SemanticParams, MapKind.CLASSES),
    "instances": SegmentationMethod(run_instances, InstanceParams, MapKind.LABELS),
}


def get_by_name(table: Mapping[str, T], name: str) -> T:
    """Return the entry of a table of methods. Raises BadInput for an unknown name."""
    if name not in table:
        raise BadInput(
            f"There is no method {name!r} here.", field="--method", remedy=f"Methods: {', '.join(table)}."
        )
    return table[name]


def parse_params(method: str, params: Mapping[str, Any]) -> StrictSchema:
    """Return the parameters as the method's `run` takes them. Raises BadInput that names the parameter."""
    schema = get_by_name(METHODS, method).params
    try:
        return schema.model_validate_json(
            orjson.dumps(params)
        )  # JSON mode, as for a request: lists become tuples
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"The parameter {field!r} of {method} cannot be {first['input']!r}: {describe_invalid(first)}.",
            field=field,
            remedy=f"Parameters of {method}: {', '.join(schema.model_fields)}.",
        ) from None


class ModelRunner:
    """`ModelRunner` gives the images of a folder to one model of a running service."""

    def __init__(self, service: Service, model: str) -> None:
        self.service, self.model = service, model

    async def add_image(self, pair: FilePair, kind: MapKind = MapKind.LABELS) -> tuple[str, Labels]:
        """Store an image, and return (image_id, its truth [H, W]). Raises BadInput that names the file.

        kind: what the truth's values mean.
        """
        truth = await asyncio.to_thread(read_truth, pair, kind)
        try:
            with pair.path.open("rb") as file:
                record = await self.service.images.add(TENANT, file, ReadOptions())
        except BadInput as error:
            raise BadInput(f"{pair.path}: {error}", field=str(pair.path)) from None
        return record.image_id, truth

    async def delete_image(self, image_id: str) -> None:
        """Delete an image and everything that was computed from it."""
        with suppress(CacheUnavailable, ImageNotFound):
            await self.service.images.delete(TENANT, image_id)

    async def build_predictor(self, image_id: str, *, raw: bool) -> Predict:
        """Encode an image, and return a function that answers prompts on it. Any thread may call that.

        raw: with the model's own masks, see `decode_prompt`.

        Raises BadInput for an image so large that it is encoded in tiles.
        """
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
        return lambda prompt: decode_prompt(model, image, prompt, None, Select.BEST, Timings(), raw=raw)[0]


@asynccontextmanager
async def running_service(settings: Settings) -> AsyncIterator[Service]:
    """Run a service that keeps its images in memory, so that none are left behind."""
    service = Service(settings.model_copy(update={"object_store": "memory:///", "quota_mb": 0}))
    await service.start(warm_up=False)
    try:
        yield service
    finally:
        await service.stop()
