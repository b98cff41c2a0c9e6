"""POST /v1/semantic: a class for every pixel, by a U-Net or another semantic network."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.http import request_body
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations.semantic import AREAS_HEADER, areas_header, segment_semantic
from segserve.wire.rest.image_routes import add_image_route
from segserve.wire.rest.responses import MAP_CONTENT, problem_responses
from segserve.wire.schemas.semantic import SemanticCocoOut, SemanticIn, SemanticOut

SUCCESS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": MAP_CONTENT,
        "headers": {
            AREAS_HEADER: {
                "description": "pixels by value in the class map, for the classes that occur: 1=52311, 3=17",
                "schema": {"type": "string"},
            }
        },
    }
}


def add_routes(api: FastAPI, service: Service) -> None:
    @add_image_route(
        api,
        "semantic",
        SemanticIn,
        summary="Give every pixel a class",
        response_model=SemanticOut | SemanticCocoOut,
        responses={**SUCCESS, **problem_responses(400, 404, 408, 409, 413, 415, 422, 503)},
        tags=["whole images"],
    )
    async def classify_pixels(request: Request) -> Response:
        """Give every pixel a class, by a U-Net or another semantic network. The answer is a class map, in which 0 is
        background and n the n-th of the model's classes, or one object for each class."""
        timings = service.new_timings()
        body = await request_body.read_json(request, SemanticIn)
        answer = await run_while_connected(request, segment_semantic(service, body, timings))
        request.state.model = answer.class_map.model
        headers = {"Server-Timing": timings.server_timing(), AREAS_HEADER: areas_header(answer.class_map)}
        return Response(answer.content, headers=headers, media_type=answer.media_type)
