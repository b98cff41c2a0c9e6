"""/v1/models: the models and their decoders."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.responses import FileResponse, Response

from segserve.app import Service
from segserve.errors import NotFound
from segserve.wire.operations.models import describe_decoder, describe_model, get_decoder_graph
from segserve.wire.rest.responses import BINARY, ModelName, json_response, problem_responses
from segserve.wire.schemas.models import DecoderOut, ModelOut, ModelsOut

# A graph changes with its model only. Clients ask each time whether it has, and get 304.
REVALIDATE = "private, no-cache"
GraphName = Annotated[
    str,
    Path(description="as GET /v1/models/{model}/decoder lists it", max_length=64, examples=["prepare.onnx"]),
]


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

    @api.get(
        "/v1/models/{model}/decoder",
        summary="Describe the fast decoder",
        response_model=DecoderOut,
        responses=problem_responses(404, 409, 422),
        tags=["models"],
    )
    async def get_fast_decoder(model: ModelName) -> Response:
        """What a client needs to decode clicks by itself, as the service does: an embedding is prepared once for each
        image, then each click runs a small graph."""
        return json_response(describe_decoder(service.registry.bundle(model)))

    @api.get(
        "/v1/models/{model}/decoder/{graph}",
        summary="Download a graph of the fast decoder",
        response_class=FileResponse,
        responses={
            200: {"content": {"application/octet-stream": BINARY}},
            304: {"description": "The graph is the one of If-None-Match."},
            **problem_responses(404, 409, 422),
        },
        tags=["models"],
    )
    async def get_fast_decoder_graph(model: ModelName, graph: GraphName, request: Request) -> Response:
        """A graph as ONNX: prepare.onnx and prepare_fine.onnx, where the model has it, run once for each image,
        fast_decoder.onnx for each click with few points, fast_decoder_many.onnx for each click with many."""
        path, digest = get_decoder_graph(service.registry.bundle(model), graph)
        headers = {"ETag": f'"{digest}"', "Cache-Control": REVALIDATE}
        if digest in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return FileResponse(path, media_type="application/octet-stream", headers=headers)
