"""An invocation: a function and its body become a call of an operation, and its result CVAT's answer."""

import asyncio
import base64
from typing import assert_never

import orjson
from fastapi import Request

from segserve.errors import BadInput
from segserve.identity.identity import current_tenant
from segserve.models.promptable_model import PromptableModel
from segserve.types import Candidate, ImageObjects
from segserve.wire.frontends.cvat.bodies import ClickIn, DetectIn, ImageBody, TrackIn
from segserve.wire.frontends.cvat.functions import Function, Task
from segserve.wire.frontends.cvat.shapes import write_mask, write_objects
from segserve.wire.frontends.cvat.tracker import track
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import read_client_json
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations import segment
from segserve.wire.operations.common import validate_body
from segserve.wire.operations.whole_image import find_all_objects
from segserve.wire.schemas.segment import SegmentIn


async def invoke(parts: FrontendParts, function: Function, request: Request) -> bytes:
    """Return the JSON of the answer. Raises BadInput, TooLarge, and what the operations raise."""
    match function.task:
        case Task.CLICK:
            return await click(parts, function, await read_client_json(request, ClickIn))
        case Task.EMBED:
            return await embed(parts, function, await read_client_json(request, ImageBody))
        case Task.TRACK:
            body = await read_client_json(request, TrackIn)
            answer = await run_while_connected(request, track(parts, function.bundle.name, body))
            return await asyncio.to_thread(orjson.dumps, answer)
        case Task.OBJECTS | Task.INSTANCES | Task.SEMANTIC:
            detect_body = await read_client_json(request, DetectIn)
            result = await run_while_connected(request, detect(parts, function, detect_body))
            return await asyncio.to_thread(write_objects, result, detect_body.threshold)
        case _:
            assert_never(function.task)


async def click(parts: FrontendParts, function: Function, body: ClickIn) -> bytes:
    service = parts.service
    image = await parts.sent_images.store_base64(body.image, "image")
    prompt = body.to_prompt(image.size)
    if not prompt["points"] and "box" not in prompt:
        raise BadInput(
            "Nothing is marked.", field="pos_points", remedy="Mark the object by a point or a box."
        )
    content = {"image_id": image.image_id, "model": function.bundle.name, "prompts": [prompt]}

    def render(candidate: Candidate) -> bytes:
        return write_mask(candidate.crop)

    result = await segment.segment(
        service, validate_body(SegmentIn, orjson.dumps(content)), render, service.new_timings()
    )
    return result.results[0][0].rendered


async def embed(parts: FrontendParts, function: Function, body: ImageBody) -> bytes:
    """Return the embedding [1, 256, 64, 64] as base64 of float32 in row order, which CVAT's plugin decodes."""
    service = parts.service
    image = await parts.sent_images.store_base64(body.image, "image")
    model = await service.registry.get(function.bundle.name, PromptableModel)
    embedding = await service.embeddings.get_embedding(
        current_tenant(), image.image_id, model, service.new_timings()
    )

    def write() -> bytes:
        blob = base64.b64encode(embedding["embedding"].astype("<f4", order="C").tobytes())
        return orjson.dumps({"blob": blob.decode()})

    return await asyncio.to_thread(write)


async def detect(parts: FrontendParts, function: Function, body: DetectIn) -> ImageObjects:
    """Find all that is on the image, in the way of the function's model."""
    image = await parts.sent_images.store_base64(body.image, "image")
    threshold = body.threshold or None
    return await find_all_objects(parts.service, function.bundle, image.image_id, score_threshold=threshold)
