"""All objects of an image, without prompts."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import TooManyTiles
from segserve.wire.http import request_body
from segserve.wire.operations import automatic, many_tiles_job
from segserve.wire.rest.responses import accepted, refusals
from segserve.wire.results import objects
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.common import CocoOut, ObjectsOut
from segserve.wire.schemas.jobs import JobOut

BINARY = {"schema": {"type": "string", "format": "binary"}}
CONTENT: dict[str, Any] = dict.fromkeys((objects.PNG, objects.TIFF, objects.NPY), BINARY)


def add(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/automatic",
        response_model=ObjectsOut | CocoOut,
        openapi_extra=request_body.json_schema(AutomaticIn),
        responses={
            200: {"content": CONTENT},
            202: {"model": JobOut, "description": "The image has very many tiles: a job does it."},
            **refusals(400, 404, 408, 409, 413, 415, 422, 503),
        },
        tags=["segment"],
    )
    async def segment(request: Request) -> Response:
        """Find all objects. `format` decides what is answered: a file with the label map (png, tiff, npy), a
        picture (overlay), or JSON (coco, rle, polygon). An image of very many tiles is left to a job, whose results
        are had in the formats of jobs."""
        timings = service.new_timings()
        asked = await request_body.read_json(request, AutomaticIn)
        try:
            found = await automatic.find_objects(service, asked, timings)
        except TooManyTiles as error:
            return accepted(await many_tiles_job.submit(service, asked, error))
        request.state.model = found.model
        content, media_type = await automatic.write_objects(service, found, asked.root.format, timings)
        return Response(content, media_type=media_type, headers={"Server-Timing": timings.server_timing()})
