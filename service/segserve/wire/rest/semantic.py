"""A class for every pixel."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.http import request_body
from segserve.wire.operations import semantic
from segserve.wire.rest.responses import refusals
from segserve.wire.results import objects
from segserve.wire.schemas.semantic import SemanticCocoOut, SemanticIn, SemanticOut

FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
DONE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": dict.fromkeys((objects.PNG, objects.TIFF, objects.NPY), FILE),
        "headers": {
            semantic.AREAS: {
                "description": "pixels by value in the class map, of the classes that occur: 1=52311, 3=17",
                "schema": {"type": "string"},
            }
        },
    }
}


def add(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/semantic",
        response_model=SemanticOut | SemanticCocoOut,
        openapi_extra=request_body.json_schema(SemanticIn),
        responses={**DONE, **refusals(400, 404, 408, 409, 413, 415, 422, 503)},
        tags=["whole images"],
    )
    async def classes(request: Request) -> Response:
        """A class for every pixel, by a U-Net or its kin, as a class map in which 0 is background and n the n-th of
        the model's classes, or as one object for each class."""
        timings = service.new_timings()
        asked = await request_body.read_json(request, SemanticIn)
        answer = await semantic.segment_semantic(service, asked, timings)
        request.state.model = answer.found.model
        headers = {
            "Server-Timing": timings.server_timing(),
            semantic.AREAS: semantic.areas_header(answer.found),
        }
        return Response(answer.content, headers=headers, media_type=answer.media_type)
