"""Which models there are."""

import asyncio

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

from segserve.app import Service
from segserve.errors import NotFound
from segserve.wire.operations import segment
from segserve.wire.rest.responses import ModelName, json, refusals
from segserve.wire.schemas.common import ModelOut, ModelsOut


def add(api: FastAPI, service: Service) -> None:
    @api.get("/v1/models", response_model=ModelsOut, tags=["models"])
    async def models() -> Response:
        bundles = await asyncio.to_thread(service.registry.bundles)
        return json({"models": [segment.describe(service, b) for b in bundles.values()]})

    @api.get(
        "/v1/models/{model}", response_model=ModelOut, responses=refusals(404, 409, 422), tags=["models"]
    )
    async def one_model(model: ModelName) -> Response:
        return json(segment.describe(service, service.registry.bundle(model)))

    @api.get(
        "/v1/models/{model}/decoder.onnx",
        responses={200: {"content": {"application/octet-stream": {}}}, **refusals(404, 409, 422)},
        tags=["models"],
    )
    async def decoder(model: ModelName) -> Response:
        """The decoder with the stock interface of segment-anything's ONNX export."""
        bundle = service.registry.bundle(model)
        if not bundle.has("decoder.onnx"):
            raise NotFound(f"Model {model!r} has no decoder to hand out.", field="model")
        return FileResponse(bundle.path("decoder.onnx"), media_type="application/octet-stream")
