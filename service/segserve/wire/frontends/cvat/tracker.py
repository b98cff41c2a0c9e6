"""Shapes followed from frame to frame: the mask of one frame, and the box around it, are the prompt on the next, as
`segserve.projection` does it. Nothing is held here: what is known of a shape goes to CVAT, and comes back with the next
frame."""

import asyncio
from typing import Any

import orjson

from segserve.errors import BadInput
from segserve.masks import crop, rle
from segserve.masks.geometry import iou
from segserve.projection.mask_to_prompt import extended_box
from segserve.types import Candidate, Crop, ImageRecord, Size
from segserve.wire.frontends.cvat.bodies import ShapeIn, StateIn, TrackIn, clip_box
from segserve.wire.frontends.cvat.shapes import draw_polygon, to_polygon
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.operations import segment
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.segment import check_mask_pixels
from segserve.wire.schemas.segment import SegmentIn

Json = dict[str, Any]

# The box on the next frame is larger than the object by this part of its edge, for the object moves.
BOX_EXTENSION = 0.1
# A mask that has less in common with the one before is another object: this one is lost.
MIN_IOU = 0.2


async def track(parts: FrontendParts, model: str, body: TrackIn) -> Json:
    """Return the shapes on the frame, None for those that are lost, and their states. Raises BadInput, TooLarge.

    Shapes without a state are begun: their answer is the shape itself.
    """
    image = await parts.sent_images.store_base64(body.image, "image")
    field, count = ("states", len(body.states)) if body.states else ("shapes", len(body.shapes))
    check_mask_pixels(count, image.size, field, "Follow fewer shapes at a time.")
    if not body.states:
        return await begin(parts, model, image, body)
    before = {
        number: await asyncio.to_thread(read_mask, state, image.size, number)
        for number, state in enumerate(body.states)
        if state is not None
    }
    seen = {number: mask for number, mask in before.items() if mask.pixels.any()}
    prompts = [to_prompt(mask) for mask in seen.values()]
    found = dict(zip(seen, await segment_prompts(parts, model, image, prompts), strict=True))

    def answer() -> Json:
        shapes: list[Any] = []
        states: list[Any] = []
        for number, state in enumerate(body.states):
            now = found.get(number)
            if state is None or now is None or iou(crop.to_mask(seen[number]), crop.to_mask(now)) < MIN_IOU:
                shapes.append(None)
                states.append(None if state is None else state.model_dump(mode="json"))
            else:
                shapes.append(to_shape(now, state.type, bare=state.bare))
                states.append(to_state(now, state.type, bare=state.bare))
        return {"shapes": shapes, "states": states}

    return await asyncio.to_thread(answer)


async def begin(parts: FrontendParts, model: str, image: ImageRecord, body: TrackIn) -> Json:
    """Return the states of new shapes: the mask of what is in a rectangle, or the polygon itself."""
    given = [ShapeIn(points=shape) if isinstance(shape, list) else shape for shape in body.shapes]
    rectangles = [shape for shape in given if shape is not None and shape.type == "rectangle"]
    prompts = [{"box": clip_box(shape.points, image.size)} for shape in rectangles]
    masks = iter(await segment_prompts(parts, model, image, prompts))

    def answer() -> list[Any]:
        states: list[Any] = []
        for sent, shape in zip(body.shapes, given, strict=True):
            if shape is None:
                states.append(None)
                continue
            is_polygon = shape.type == "polygon"
            mask = crop.from_mask(draw_polygon(shape.points, image.size)) if is_polygon else next(masks)
            states.append(to_state(mask, shape.type, bare=isinstance(sent, list)))
        return states

    states = await asyncio.to_thread(answer)
    return {
        "shapes": [s if s is None or isinstance(s, list) else s.model_dump() for s in body.shapes],
        "states": states,
    }


async def segment_prompts(
    parts: FrontendParts, model: str, image: ImageRecord, prompts: list[Json]
) -> list[Crop]:
    """Return the mask of each prompt."""
    if not prompts:
        return []
    request = {"image_id": image.image_id, "model": model, "prompts": prompts, "multimask": False}

    def render(candidate: Candidate) -> Crop:
        return candidate.crop

    checked = validate_body(SegmentIn, await asyncio.to_thread(orjson.dumps, request))
    result = await segment.segment(parts.service, checked, render, parts.service.new_timings())
    return [masks[0].rendered for masks in result.results]


def read_mask(state: StateIn, size: Size, number: int) -> Crop:
    """Return the mask of a state. Blocks. Raises BadInput where it is none of this image."""
    if state.mask.size != [size.height, size.width]:
        raise BadInput(
            f"The frame is {size.height} x {size.width}, and the shape was seen on one of"
            f" {state.mask.size[0]} x {state.mask.size[1]}.",
            field=f"states.{number}",
            remedy="Follow shapes through frames of one size.",
        )
    return crop.from_mask(rle.decode(state.mask.counts, size, f"states.{number}.mask"))


def to_prompt(mask: Crop) -> Json:
    """Return the JSON of the prompt that a mask is on the next frame."""
    box = extended_box(crop.to_mask(mask), BOX_EXTENSION)
    return {"box": [box.x0, box.y0, box.x1, box.y1], "mask": to_rle(mask)}


def to_rle(mask: Crop) -> Json:
    return {"size": [mask.size.height, mask.size.width], "counts": rle.encode(mask)}


def to_state(mask: Crop, kind: str, *, bare: bool) -> Json:
    return {"type": kind, "mask": to_rle(mask), "bare": bare}


def to_shape(mask: Crop, kind: str, *, bare: bool) -> Json | list[float] | None:
    """Return the shape around a mask. bare: its points alone."""
    x0, y0, x1, y1 = crop.bounding_box(mask)
    points = [float(x0), float(y0), float(x1), float(y1)] if kind == "rectangle" else to_polygon(mask)
    if points is None or bare:
        return points
    return {"type": kind, "points": points}
