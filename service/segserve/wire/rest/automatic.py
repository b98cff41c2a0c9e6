"""All objects of an image, without prompts."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import TooManyTiles
from segserve.wire import automatic, body, many_tiles, results
from segserve.wire.rest.answers import accepted, refusals
from segserve.wire.schemas import CocoOut, FoundOut
from segserve.wire.schemas_automatic import AutomaticIn
from segserve.wire.schemas_jobs import JobOut

BINARY = {"schema": {"type": "string", "format": "binary"}}
CONTENT: dict[str, Any] = dict.fromkeys((results.PNG, results.TIFF, results.NPY), BINARY)


def add(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/automatic",
        response_model=FoundOut | CocoOut,
        openapi_extra=body.json_schema(AutomaticIn),
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
        timings = service.timings()
        asked = await body.read_json(request, AutomaticIn)
        try:
            found = await automatic.find(service, asked, timings)
        except TooManyTiles as error:
            return accepted(await many_tiles.submit(service, asked, error))
        request.state.model = found.model
        content, media_type = await automatic.render(service, found, asked.root.format, timings)
        return Response(content, media_type=media_type, headers={"Server-Timing": timings.header()})
