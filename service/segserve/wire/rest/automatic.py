"""POST /v1/automatic: all objects of an image, without prompts."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import TooManyTiles
from segserve.wire.http import request_body
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations import automatic
from segserve.wire.operations.hints import add_page_hints
from segserve.wire.operations.many_tiles_job import submit_many_tiles
from segserve.wire.rest.image_routes import add_image_route
from segserve.wire.rest.responses import MAP_CONTENT, accepted_response, hint_headers, problem_responses
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.jobs import JobOut
from segserve.wire.schemas.objects import CocoOut, ObjectsOut


def add_routes(api: FastAPI, service: Service) -> None:
    @add_image_route(
        api,
        "automatic",
        AutomaticIn,
        summary="Find all objects of an image",
        response_model=ObjectsOut | CocoOut,
        responses={
            200: {"content": MAP_CONTENT},
            202: {
                "model": JobOut,
                "description": "The image has too many tiles for one request: a job does it.",
            },
            **problem_responses(400, 404, 408, 409, 413, 415, 422, 503),
        },
        tags=["whole images"],
    )
    async def find_objects(request: Request) -> Response:
        """Find all objects of an image. `format` decides what is answered: the label map as a file (png, tiff, npy), a
        picture (overlay), or JSON (coco, rle, polygon). An image with too many tiles for one request becomes a job,
        whose results have the formats of jobs."""
        timings = service.new_timings()
        body = await request_body.read_json(request, AutomaticIn)
        try:
            result = await run_while_connected(request, automatic.find_objects(service, body, timings))
        except TooManyTiles as refusal:
            return accepted_response(await submit_many_tiles(service, body, refusal))
        request.state.model = result.model
        result = await add_page_hints(service, result)
        content, media_type = await automatic.write_objects(
            service, result, body.root.format, timings, body.root.tolerance
        )
        headers = {"Server-Timing": timings.server_timing(), **hint_headers(result.hints)}
        if result.scale is not None:
            headers["Segserve-Scale"] = f"{result.scale.scale:.4g}"
        return Response(content, media_type=media_type, headers=headers)
