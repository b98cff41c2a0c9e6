"""/v1/models: the models and their decoders."""

import asyncio

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

from segserve.app import Service
from segserve.errors import NotFound
from segserve.wire.operations.models import describe_model
from segserve.wire.rest.responses import BINARY, ModelName, json_response, problem_responses
from segserve.wire.schemas.models import ModelOut, ModelsOut


def add_routes(api: FastAPI, service: Service) -> None:
    @api.get("/v1/models", summary="List the models", response_model=ModelsOut, tags=["models"])
    async def list_models() -> Response:
        """All models."""
        bundles = await asyncio.to_thread(service.registry.bundles)
        return json_response({"models": [describe_model(service, b) for b in bundles.values()]})

    @api.get(
        "/v1/models/{model}",
        summary="Describe a model",
        response_model=ModelOut,
        responses=problem_responses(404, 409, 422),
        tags=["models"],
    )
    async def get_model(model: ModelName) -> Response:
        """One model."""
        return json_response(describe_model(service, service.registry.bundle(model)))

    @api.get(
        "/v1/models/{model}/decoder.onnx",
        summary="Download a decoder",
        response_class=FileResponse,
        responses={
            200: {"content": {"application/octet-stream": BINARY}},
            **problem_responses(404, 409, 422),
        },
        tags=["models"],
    )
    async def get_decoder(model: ModelName) -> Response:
        """The decoder as ONNX, with the inputs and outputs of segment-anything's own ONNX export."""
        bundle = service.registry.bundle(model)
        if not bundle.has("decoder.onnx"):
            raise NotFound(f"Model {model!r} has no decoder to download.", field="model")
        return FileResponse(bundle.path("decoder.onnx"), media_type="application/octet-stream")
