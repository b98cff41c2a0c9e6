"""POST /v1/instances: objects of known classes, by Mask R-CNN."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.http import request_body
from segserve.wire.http.client_presence import run_while_connected
from segserve.wire.operations import instances
from segserve.wire.rest.image_routes import add_image_route
from segserve.wire.rest.responses import MAP_CONTENT, problem_responses
from segserve.wire.results.objects import write_objects
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.objects import CocoOut, ObjectsOut


def add_routes(api: FastAPI, service: Service) -> None:
    @add_image_route(
        api,
        "instances",
        InstancesIn,
        summary="Find objects of known classes",
        response_model=ObjectsOut | CocoOut,
        responses={
            200: {"content": MAP_CONTENT},
            **problem_responses(400, 404, 408, 409, 413, 415, 422, 503),
        },
        tags=["whole images"],
    )
    async def find_instances(request: Request) -> Response:
        """Find the objects of the classes that a Mask R-CNN knows, with their masks, by descending score."""
        timings = service.new_timings()
        body = await request_body.read_json(request, InstancesIn)
        work = instances.find_instances(
            service,
            body,
            lambda result, image: write_objects(result, body.format, image, body.tolerance),
            timings,
        )
        result, (content, media_type) = await run_while_connected(request, work)
        request.state.model = result.model
        return Response(content, headers={"Server-Timing": timings.server_timing()}, media_type=media_type)
