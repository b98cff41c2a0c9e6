"""POST /predict: regions for what an annotator draws, or for all that is on the images of tasks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from segserve.errors import BadInput, SegserveError
from segserve.models.bundle import Bundle
from segserve.models.manifest import PromptableManifest
from segserve.types import Candidate, ImageObjects
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.label_studio.bodies import OptionsIn, RegionIn, TaskIn
from segserve.wire.frontends.label_studio.connections import Connection
from segserve.wire.frontends.label_studio.label_config import Control, LabelConfig
from segserve.wire.frontends.label_studio.prompts import read_prompts
from segserve.wire.frontends.label_studio.results import write_regions, write_values
from segserve.wire.frontends.label_studio.task_media import TaskMedia
from segserve.wire.operations import segment
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.models import list_automatic_methods, list_classes
from segserve.wire.operations.whole_image import find_all_objects
from segserve.wire.schemas.segment import SegmentIn

Json = dict[str, Any]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Target:
    """The subject of a prediction. connection: of the project. bundle: the model. config: its label config."""

    connection: Connection
    bundle: Bundle
    config: LabelConfig

    @property
    def options(self) -> OptionsIn:
        return self.connection.options


def name_version(bundle: Bundle, options: OptionsIn) -> str:
    """Return the version of predictions. Label Studio asks again where it has changed."""
    if not isinstance(bundle.manifest, PromptableManifest):
        return bundle.name
    return f"{bundle.name} {options.method or list_automatic_methods(bundle)[0]}"


class Predictor:
    """`Predictor` answers predictions on images."""

    def __init__(self, parts: FrontendParts, media: TaskMedia) -> None:
        self._service, self._media = parts.service, media

    async def answer_prompts(self, target: Target, task: TaskIn, regions: Sequence[RegionIn]) -> Json:
        """Return the regions of what an annotator means. Raises BadInput, and what the operations raise."""
        first = regions[0]
        to_name = first.to_name or next(iter(target.config.values), "")
        image = await self._media.get_image(
            target.connection, task, find_key(target.config, to_name), first.item_index
        )
        prompts = await asyncio.to_thread(read_prompts, regions, image.size)
        if not prompts:
            return {"result": [], "score": 0.0}
        options, controls = target.options, find_controls(target.config, to_name, target.options)
        control = next((c for c in controls if c.has_label(first.label or "")), controls[0])

        def render(candidate: Candidate) -> list[Json]:
            return write_values(candidate.crop, control.shape, options.tolerance)

        request = {
            "image_id": image.image_id,
            "model": target.bundle.name,
            "prompts": [prompt.to_json() for prompt in prompts],
        }
        checked = validate_body(SegmentIn, orjson.dumps(request))
        answer = await segment.segment(self._service, checked, render, self._service.new_timings())
        result = []
        for prompt, masks in zip(prompts, answer.results, strict=True):
            label = control.find_label(prompt.label, options.label)
            for mask in masks:
                score = mask.candidate.score
                result += write_regions(mask.rendered, control, label, answer.size, score)
        if first.item_index is not None:
            result = [{**region, "item_index": first.item_index} for region in result]
        scores = [mask.candidate.score for masks in answer.results for mask in masks]
        return {"result": result, "score": sum(scores) / max(1, len(scores))}

    async def annotate_tasks(self, target: Target, tasks: Sequence[TaskIn]) -> list[Json]:
        """Return all objects of each task's image, in the way of the model.

        A task whose image cannot be read has no result, so that Label Studio keeps none for it. Raises what the first
        one raises where there is none for any.
        """
        if next(iter(target.config.values), "") in target.config.video_controls:
            return [{"error": "Objects on videos are found by what an annotator draws."} for _ in tasks]
        answers: list[Json] = []
        failed: list[SegserveError] = []
        for task in tasks:
            try:
                answers.append(await self._annotate(target, task))
            except SegserveError as error:
                log.info("no prediction", task=task.id, reason=str(error))
                failed.append(error)
                answers.append({"error": str(error)})
        if len(failed) == len(tasks):
            raise failed[0]
        return answers

    async def _annotate(self, target: Target, task: TaskIn) -> Json:
        to_name = next(iter(target.config.values), "")
        image = await self._media.get_image(target.connection, task, find_key(target.config, to_name), None)
        controls = find_controls(target.config, to_name, target.options)
        options = target.options
        asked: Json = {} if options.method is None else {"method": options.method}
        if options.params:
            asked["params"] = options.params
        objects = await find_all_objects(
            self._service,
            target.bundle,
            image.image_id,
            score_threshold=options.score_threshold,
            automatic_options=asked,
        )
        classes = list_classes(target.bundle.manifest)
        result = await asyncio.to_thread(
            write_objects, objects, choose_control(controls, classes), classes, options
        )
        scores = [item.score for item in objects.objects if item.score is not None]
        return {"result": result, "score": sum(scores) / len(scores) if scores else None}


def find_key(config: LabelConfig, to_name: str) -> str:
    """Return under which key a task's data has its image. Raises BadInput."""
    if (key := config.values.get(to_name)) is None:
        raise BadInput(
            f"The label config has no Image {to_name!r}.",
            field="label_config",
            remedy='Add <Image name="image" value="$image"/>.',
        )
    return key


def find_controls(config: LabelConfig, to_name: str, options: OptionsIn) -> list[Control]:
    """Return the tags that objects may become, the best first. Raises BadInput where there is none."""
    controls = config.controls_of(to_name)
    if options.output is not None:
        controls = [control for control in controls if control.shape is options.output]
    if not controls:
        raise BadInput(
            "The label config has no tag that objects could become.",
            field="label_config",
            remedy="Add BrushLabels, BitmaskLabels, PolygonLabels, RectangleLabels or KeyPointLabels to the image.",
        )
    return controls


def choose_control(controls: list[Control], classes: list[str] | None) -> Control:
    """Return the first control that has one of the classes as a label, else the first."""
    for control in controls:
        if any(control.has_label(name) for name in classes or []):
            return control
    return controls[0]


def write_objects(
    result: ImageObjects, control: Control, classes: list[str] | None, options: OptionsIn
) -> list[Json]:
    """Return the regions of all objects. Blocks.

    Where some classes of the model are labels of the project, objects of its other classes are left out.
    """
    some_known = any(control.has_label(name) for name in classes or [])
    regions: list[Json] = []
    for item in result.objects:
        if some_known and not control.has_label(item.category or ""):
            continue
        label = control.find_label(item.category, options.label)
        values = write_values(item.crop, control.shape, options.tolerance)
        regions += write_regions(values, control, label, result.size, item.score)
    return regions
