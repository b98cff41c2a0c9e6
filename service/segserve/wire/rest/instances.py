"""Objects of known classes."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.http import request_body
from segserve.wire.operations import instances
from segserve.wire.rest.responses import refusals
from segserve.wire.results import objects as results
from segserve.wire.schemas.common import CocoOut, ObjectsOut
from segserve.wire.schemas.instances import InstancesIn

FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
CONTENT = dict.fromkeys((results.PNG, results.TIFF, results.NPY), FILE)


def add(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/instances",
        response_model=ObjectsOut | CocoOut,
        openapi_extra=request_body.json_schema(InstancesIn),
        responses={200: {"content": CONTENT}, **refusals(400, 404, 408, 409, 413, 415, 422, 503)},
        tags=["whole images"],
    )
    async def objects(request: Request) -> Response:
        """Objects of the classes that a Mask R-CNN knows, by descending score, each with its class and mask."""
        timings = service.new_timings()
        asked = await request_body.read_json(request, InstancesIn)
        found, (content, media_type) = await instances.find_instances(
            service, asked, lambda found, image: results.write_objects(found, asked.format, image), timings
        )
        request.state.model = found.model
        return Response(content, headers={"Server-Timing": timings.server_timing()}, media_type=media_type)
