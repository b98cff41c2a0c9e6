"""POST /v1/predict: shapes for marks on an image, or for all that is on it."""

import asyncio
from typing import Annotated, Any

import orjson
from pydantic import Field, FiniteFloat

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.manifest import InstancesManifest, SemanticManifest
from segserve.types import Candidate, ImageObjects
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import ClientBody
from segserve.wire.frontends.x_anylabeling.shapes import PROPOSED_LABEL, to_shapes
from segserve.wire.operations import segment
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.whole_image import find_all_objects
from segserve.wire.schemas.prompts import MAX_POINTS
from segserve.wire.schemas.segment import SegmentIn

Json = dict[str, Any]

OBJECT_LABEL = "object"  # of objects without a class
POINT_VALUES = 2
BOX_VALUES = 4


class MarkIn(ClientBody):
    """type: point, data x, y, label 1 on the object and 0 not on it; or rectangle, data x1, y1, x2, y2."""

    type: str = Field(max_length=32)
    data: Annotated[list[FiniteFloat], Field(max_length=BOX_VALUES)]
    label: int | None = None


class ParamsIn(ClientBody):
    marks: list[MarkIn] = Field([], max_length=MAX_POINTS)
    conf_threshold: float | None = Field(None, ge=0, le=1)
    epsilon_factor: float = Field(0.0, ge=0, le=1)
    text_prompt: str | None = None


class PredictIn(ClientBody):
    model: str = Field(max_length=64)
    image: str
    params: ParamsIn = Field(default_factory=ParamsIn)


async def predict(parts: FrontendParts, bundle: Bundle, body: PredictIn) -> Json:
    """Return the data of the answer. Raises BadInput, and what the operations raise."""
    params = body.params
    if params.text_prompt:
        raise BadInput(
            "Texts are no prompts here.",
            field="text_prompt",
            remedy="Mark the object with points or a rectangle.",
        )
    image = await parts.sent_images.store_base64(body.image, "image")
    if params.marks and not isinstance(bundle.manifest, SemanticManifest | InstancesManifest):
        # The client takes the place of the last proposal by these shapes, and leaves all others.
        shapes = await segment_marks(parts, image.image_id, body)
        return {"shapes": shapes, "description": "", "replace": False}
    result = await find_all_objects(
        parts.service, bundle, image.image_id, score_threshold=params.conf_threshold
    )
    # Without `replace`: the user decides in the client whether labels that are there are kept.
    return {"shapes": await asyncio.to_thread(objects_to_shapes, result, params), "description": ""}


async def segment_marks(parts: FrontendParts, image_id: str, body: PredictIn) -> list[Json]:
    """Return the shapes of a proposal."""
    service, epsilon_factor = parts.service, body.params.epsilon_factor
    request = {
        "image_id": image_id,
        "model": body.model,
        "prompts": marks_to_prompts(body.params.marks),
    }

    def render(candidate: Candidate) -> list[Json]:
        return to_shapes(candidate.crop, PROPOSED_LABEL, candidate.score, epsilon_factor)

    result = await segment.segment(
        service, validate_body(SegmentIn, orjson.dumps(request)), render, service.new_timings()
    )
    return [shape for masks in result.results for mask in masks for shape in mask.rendered]


def marks_to_prompts(marks: list[MarkIn]) -> list[Json]:
    """Return the JSON of the prompts: one for each rectangle, with the points in it. Raises BadInput.

    Points of the object that are in no rectangle are one more object. Points that are not on it count for all.
    """
    boxes: list[list[float]] = []
    points: list[MarkIn] = []
    for number, mark in enumerate(marks):
        if mark.type == "point" and len(mark.data) == POINT_VALUES:
            points.append(mark)
        elif mark.type == "rectangle" and len(mark.data) == BOX_VALUES:
            (x0, x1), (y0, y1) = sorted(mark.data[0::2]), sorted(mark.data[1::2])
            boxes.append([x0, y0, x1, y1])
        else:
            raise BadInput(
                f"{mark.type!r} with {len(mark.data)} values is no mark.",
                field=f"params.marks.{number}",
                remedy="Send a point (x, y) or a rectangle (x1, y1, x2, y2).",
            )
    if len(boxes) <= 1:
        return [{**({"box": boxes[0]} if boxes else {}), **points_to_json(points)}]
    prompts = [
        {"box": box, **points_to_json([p for p in points if p.label == 0 or is_inside(p, box)])}
        for box in boxes
    ]
    loose = [p for p in points if p.label == 0 or not any(is_inside(p, box) for box in boxes)]
    return [*prompts, points_to_json(loose)] if any(p.label != 0 for p in loose) else prompts


def is_inside(point: MarkIn, box: list[float]) -> bool:
    return box[0] <= point.data[0] <= box[2] and box[1] <= point.data[1] <= box[3]


def points_to_json(points: list[MarkIn]) -> Json:
    return {"points": [p.data for p in points], "labels": [int(p.label != 0) for p in points]}


def objects_to_shapes(result: ImageObjects, params: ParamsIn) -> list[Json]:
    """Return the shapes of all objects. Blocks."""
    return [
        shape
        for number, item in enumerate(result.objects, 1)
        for shape in to_shapes(
            item.crop, item.category or OBJECT_LABEL, item.score, params.epsilon_factor, group_id=number
        )
    ]
