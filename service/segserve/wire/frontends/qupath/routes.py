"""The routes under /sam/. Their trailing slashes are part of the protocol."""

import asyncio
from typing import Any

import orjson
from cachetools import LRUCache
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.datastructures import UploadFile

from segserve.errors import BadInput, NotAllowed
from segserve.types import Candidate, ImageObjects
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import read_client_json
from segserve.wire.frontends.qupath.bodies import (
    AutoMaskBody,
    ModelBody,
    PromptBody,
    SequenceBody,
)
from segserve.wire.frontends.qupath.choose_model import choose_model, list_weights
from segserve.wire.frontends.qupath.features import fills_view, to_feature
from segserve.wire.frontends.qupath.sequences import Sequences
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations import automatic, segment
from segserve.wire.operations.common import validate_body
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.segment import SegmentIn

PREFIX = "/sam"
# The version of samapi whose protocol this is.
PROTOCOL_VERSION = "0.6.1"

MAX_NAME = 128
MAX_FORM_FIELDS = 4
# Values of a request: points on each of many pictures.
MAX_SEQUENCE_VALUES = 1 << 18
# Types of models, at several times.
MAX_CHOSEN = 64

Json = dict[str, Any]


def json_answer(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    service = parts.service
    sequences = Sequences(parts)

    # Models by the names of all models and the type: to read every manifest takes longer than to decode a click.
    chosen: LRUCache[tuple[tuple[str, ...], str], str] = LRUCache(MAX_CHOSEN)

    async def find_model(body: ModelBody) -> str:
        default = service.settings.default_model
        if body.checkpoint_url:
            return choose_model([], body.type, body.checkpoint_url, default)
        key = (tuple(service.registry.names()), body.type)
        if key not in chosen:
            bundles = await asyncio.to_thread(service.registry.bundles)
            chosen[key] = choose_model(bundles.values(), body.type, None, default)
        return chosen[key]

    async def segment_object(request: Request) -> Response:
        body = await read_client_json(request, PromptBody)
        prompt, model = body.to_prompt(), await find_model(body)
        image = await parts.sent_images.store_base64(body.b64img, "b64img")
        content = {
            "image_id": image.image_id,
            "model": model,
            "prompts": [prompt],
            "multimask": body.multimask_output,
            "select": "all" if body.multimask_output else "best",
        }

        def render(candidate: Candidate) -> Json | None:
            return to_feature(candidate.crop, candidate.score, 0, model)

        result = await segment.segment(
            service, validate_body(SegmentIn, orjson.dumps(content)), render, service.new_timings()
        )
        request.state.model = model
        features = [mask.rendered for masks in result.results for mask in masks]
        return json_answer(
            [
                {**feature, "properties": {**feature["properties"], "object_idx": index}}
                for index, feature in enumerate(features)
                if feature is not None
            ]
        )

    async def find_objects(request: Request) -> Response:
        body = await read_client_json(request, AutoMaskBody)
        model = await find_model(body)
        image = await parts.sent_images.store_base64(body.b64img, "b64img")
        content = {
            "image_id": image.image_id,
            "model": model,
            "method": "amg",
            "params": body.to_params(),
            "raw": body.is_raw,
        }
        asked = validate_body(AutomaticIn, orjson.dumps(content))
        result = await run_while_connected(
            request, automatic.find_objects(service, asked, service.new_timings())
        )
        request.state.model = model
        return await asyncio.to_thread(write_objects, result, keep_filling=body.include_image_edge)

    def write_objects(result: ImageObjects, *, keep_filling: bool) -> Response:
        features = [
            to_feature(item.crop, item.score, index, result.model)
            for index, item in enumerate(result.objects)
            if keep_filling or not fills_view(item.crop)
        ]
        return json_answer([feature for feature in features if feature is not None])

    async def upload_picture(request: Request) -> Response:
        async with request.form(max_files=1, max_fields=MAX_FORM_FIELDS) as form:
            name, file = form.get("dirname"), form.get("file")
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not isinstance(file, UploadFile):
                raise BadInput(
                    "The form lacks the name of a sequence, or a picture.",
                    field="dirname",
                    remedy=f"Send dirname, of up to {MAX_NAME} characters, and file.",
                )
            await sequences.add_picture(name, file.filename or "", await file.read())
            return json_answer({"filename": file.filename})

    async def follow_objects(request: Request) -> Response:
        body = await read_client_json(request, SequenceBody, MAX_SEQUENCE_VALUES)
        model = request.state.model = await find_model(body)
        features = await run_while_connected(request, sequences.follow(body, model))
        return await asyncio.to_thread(json_answer, features)

    async def show_version() -> Response:
        return PlainTextResponse(PROTOCOL_VERSION)

    async def list_all_weights(type: str | None = None) -> Response:
        bundles = await asyncio.to_thread(service.registry.bundles)
        return json_answer(list_weights(bundles.values(), type))

    async def refuse_weights() -> Response:
        raise NotAllowed(
            "Weights are not downloaded for a client.",
            field="url",
            remedy="Ask the operator to import them: segserve models import.",
        )

    async def show_progress() -> Response:
        return json_answer({"message": "", "percent": 100})

    async def cancel_download() -> Response:
        return PlainTextResponse("There is no download.")

    def add(method: str, path: str, function: Any) -> None:
        api.add_api_route(f"{PREFIX}{path}", function, methods=[method], include_in_schema=False)

    add("POST", "/", segment_object)
    add("POST", "/automask/", find_objects)
    add("POST", "/upload/", upload_picture)
    add("POST", "/video/", follow_objects)
    add("GET", "/version/", show_version)
    add("GET", "/weights/", list_all_weights)
    add("POST", "/weights/", refuse_weights)
    add("GET", "/weights/cancel/", cancel_download)
    add("GET", "/progress/", show_progress)
