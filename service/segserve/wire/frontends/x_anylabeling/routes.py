"""The routes under /x-anylabeling."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from segserve.types import FrontendName
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import read_client_json
from segserve.wire.frontends.sessions import Sessions
from segserve.wire.frontends.x_anylabeling.models import describe_model, list_models, split_model_id
from segserve.wire.frontends.x_anylabeling.predict import PredictIn, predict
from segserve.wire.frontends.x_anylabeling.video import (
    InitIn,
    PromptIn,
    PropagateIn,
    Videos,
    VideoSession,
    delete_frames,
)
from segserve.wire.http.client_presence import run_while_connected

PREFIX = "/x-anylabeling"


def succeed(data: Any) -> Response:
    return Response(orjson.dumps({"success": True, "data": data}), media_type="application/json")


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    registry = parts.service.registry
    sessions = Sessions[VideoSession](
        parts.service, FrontendName.X_ANYLABELING, partial(delete_frames, parts.service)
    )
    videos = Videos(parts, sessions)

    async def health() -> Response:
        return Response(orjson.dumps({"status": "healthy"}), media_type="application/json")

    async def show_models() -> Response:
        bundles = await asyncio.to_thread(registry.bundles)
        return succeed(list_models(bundles.values()))

    async def show_model(model: str) -> Response:
        name, is_video = split_model_id(model)
        return succeed(describe_model(await registry.get_bundle(name), is_video=is_video))

    async def predict_shapes(request: Request) -> Response:
        body = await read_client_json(request, PredictIn)
        bundle = await registry.get_bundle(split_model_id(body.model)[0])
        request.state.model = bundle.name
        data = await run_while_connected(request, predict(parts, bundle, body))
        return await asyncio.to_thread(succeed, data)

    async def init_video(request: Request) -> Response:
        body = await read_client_json(request, InitIn)
        bundle = await registry.get_bundle(split_model_id(body.model)[0])
        return succeed(await videos.init(bundle.name, body.frames))

    async def prompt_video(request: Request) -> Response:
        body = await read_client_json(request, PromptIn)
        return succeed(await run_while_connected(request, videos.prompt(body)))

    async def propagate_video(request: Request) -> Response:
        body = await read_client_json(request, PropagateIn)
        events = videos.propagate(body)
        first = await anext(events)  # what is wrong with the request is raised here, before the stream begins

        async def stream() -> AsyncIterator[bytes]:
            async with aclosing(events):
                yield first
                async for part in events:
                    yield part

        return StreamingResponse(
            stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def clean_up_video(session_id: str) -> Response:
        videos.cleanup(session_id)
        return succeed({"session_id": session_id})

    def add(method: str, path: str, function: Any) -> None:
        api.add_api_route(f"{PREFIX}{path}", function, methods=[method], include_in_schema=False)

    add("GET", "/health", health)
    add("GET", "/v1/models", show_models)
    add("GET", "/v1/models/{model}/info", show_model)
    add("POST", "/v1/predict", predict_shapes)
    add("POST", "/v1/video/init", init_video)
    add("POST", "/v1/video/prompt", prompt_video)
    add("POST", "/v1/video/propagate/stream", propagate_video)
    add("POST", "/v1/video/cleanup/{session_id}", clean_up_video)
