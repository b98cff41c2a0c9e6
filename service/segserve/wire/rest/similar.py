"""POST /v1/similar: more objects like the examples."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.http import request_body
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations import similar
from segserve.wire.operations.automatic import write_objects
from segserve.wire.operations.hints import add_page_hints
from segserve.wire.rest.image_routes import add_image_route
from segserve.wire.rest.responses import MAP_CONTENT, hint_headers, problem_responses
from segserve.wire.schemas.objects import CocoOut
from segserve.wire.schemas.similar import SimilarIn, SimilarOut


def add_routes(api: FastAPI, service: Service) -> None:
    @add_image_route(
        api,
        "similar",
        SimilarIn,
        summary="Find objects like examples",
        response_model=SimilarOut | CocoOut,
        responses={
            200: {"content": MAP_CONTENT},
            **problem_responses(400, 404, 408, 409, 413, 415, 422, 503),
        },
        tags=["whole images"],
    )
    async def find_similar(request: Request) -> Response:
        """Find more objects like the examples, on the same image or on another. `format` decides what is answered, as
        in POST /v1/automatic; left out it is JSON with run lengths."""
        timings = service.new_timings()
        body = await request_body.read_json(request, SimilarIn)
        result = await run_while_connected(request, similar.find_similar(service, body, timings))
        request.state.model = result.model
        result = await add_page_hints(service, result)
        content, media_type = await write_objects(service, result, body.format, timings, body.tolerance)
        headers = {"Server-Timing": timings.server_timing(), **hint_headers(result.hints)}
        return Response(content, media_type=media_type, headers=headers)
