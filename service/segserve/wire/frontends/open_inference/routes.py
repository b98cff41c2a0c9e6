"""The routes under /v2."""

import asyncio
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.errors import Unavailable
from segserve.types import MB
from segserve.wire.frontends.frontend import FrontendParts
from segserve.wire.frontends.json_body import ClientBody, read_client_json
from segserve.wire.frontends.open_inference import describe
from segserve.wire.frontends.open_inference.http_tensors import (
    JSON_LENGTH_HEADER,
    read_request,
    unpack_body,
    write_answer,
)
from segserve.wire.frontends.open_inference.infer import Inference, find_bundle
from segserve.wire.frontends.open_inference.statistics import describe_statistics
from segserve.wire.http.client_presence import run_while_connected

BINARY = "application/octet-stream"


class IndexIn(ClientBody):
    ready: bool = False


def json_answer(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def add_routes(api: FastAPI, parts: FrontendParts) -> None:
    service = parts.service
    inference = Inference(service, parts.sent_images)

    async def describe_server() -> Response:
        return json_answer(describe.SERVER)

    async def live() -> Response:
        return json_answer({"live": True})

    async def ready() -> Response:
        status, _ = await service.check_readiness()
        if status == "unavailable":
            raise Unavailable("A request would not be answered.", remedy="GET /readyz says why.")
        return json_answer({"ready": True})

    async def describe_model(model: str, version: str = "") -> Response:
        return json_answer(describe.describe_model(await find_bundle(service, model, version)))

    async def model_ready(model: str, version: str = "") -> Response:
        bundle = await find_bundle(service, model, version)
        return json_answer({"name": bundle.name, "ready": True})

    async def describe_config(model: str, version: str = "") -> Response:
        return json_answer(describe.describe_config(await find_bundle(service, model, version)))

    async def model_statistics(model: str, version: str = "") -> Response:
        bundle = await find_bundle(service, model, version)
        statistics = describe_statistics(service.metrics.frontends, bundle.name)
        return json_answer({"model_stats": [statistics]})

    async def all_statistics() -> Response:
        names = await asyncio.to_thread(service.registry.bundles)
        statistics = [describe_statistics(service.metrics.frontends, name) for name in names]
        return json_answer({"model_stats": statistics})

    async def index(request: Request) -> Response:
        has_body = bool(await request.body())
        body = await read_client_json(request, IndexIn) if has_body else IndexIn()
        models = describe.list_repository(
            service.registry.names(), await asyncio.to_thread(service.registry.bundles)
        )
        return json_answer([model for model in models if not body.ready or model["state"] == "READY"])

    async def infer(request: Request, model: str, version: str = "") -> Response:
        body, encoding = await request.body(), request.headers.get("content-encoding", "").lower()
        max_bytes, memory = service.settings.max_request_mb * MB, service.request_limits.body_memory_mb
        async with unpack_body(body, encoding, max_bytes, memory) as unpacked:
            json_length = request.headers.get(JSON_LENGTH_HEADER)
            asked = await asyncio.to_thread(read_request, unpacked, model, version, json_length)
            answering = inference.run(asked.infer, lambda tensors: write_answer(asked, tensors))
            answer, json_bytes = await run_while_connected(request, answering)
        request.state.model = model
        if json_bytes is None:
            return Response(answer, media_type="application/json")
        return Response(answer, media_type=BINARY, headers={JSON_LENGTH_HEADER: str(json_bytes)})

    def add(method: str, path: str, function: Any) -> None:
        api.add_api_route(f"/v2{path}", function, methods=[method], include_in_schema=False)

    add("GET", "", describe_server)
    add("GET", "/health/live", live)
    add("GET", "/health/ready", ready)
    add("GET", "/models/stats", all_statistics)
    add("POST", "/repository/index", index)
    for prefix in ("/models/{model}", "/models/{model}/versions/{version}"):
        add("GET", prefix, describe_model)
        add("GET", f"{prefix}/ready", model_ready)
        add("GET", f"{prefix}/config", describe_config)
        add("GET", f"{prefix}/stats", model_statistics)
        add("POST", f"{prefix}/infer", infer)
