"""The routes under /x-anylabeling."""

import asyncio
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import read_client_json
from segserve.wire.frontends.x_anylabeling.models import describe_model
from segserve.wire.frontends.x_anylabeling.predict import PredictIn, predict

PREFIX = "/x-anylabeling"


def succeed(data: Any) -> Response:
    return Response(orjson.dumps({"success": True, "data": data}), media_type="application/json")


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    registry = parts.service.registry

    async def health() -> Response:
        return Response(orjson.dumps({"status": "healthy"}), media_type="application/json")

    async def list_models() -> Response:
        bundles = await asyncio.to_thread(registry.bundles)
        return succeed({name: describe_model(bundle) for name, bundle in bundles.items()})

    async def show_model(model: str) -> Response:
        return succeed(describe_model(await registry.get_bundle(model)))

    async def predict_shapes(request: Request) -> Response:
        body = await read_client_json(request, PredictIn)
        bundle = await registry.get_bundle(body.model)
        request.state.model = bundle.name
        return succeed(await predict(parts, bundle, body))

    def add(method: str, path: str, function: Any) -> None:
        api.add_api_route(f"{PREFIX}{path}", function, methods=[method], include_in_schema=False)

    add("GET", "/health", health)
    add("GET", "/v1/models", list_models)
    add("GET", "/v1/models/{model}/info", show_model)
    add("POST", "/v1/predict", predict_shapes)
