"""GET /v1/images/{image_id}/tiles/{level}/{x}/{y}: an image in tiles, for viewers that zoom and pan."""

from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.identity.identity import current_tenant
from segserve.images.tile_reader import check_tile
from segserve.wire.operations.tiles import render_tile
from segserve.wire.rest.pictures import (
    PICTURE_CONTENT,
    choose_picture_format,
    picture_headers,
    picture_tag,
    unchanged_response,
)
from segserve.wire.rest.responses import ImageId, problem_responses

Level = Annotated[int, Path(ge=0, description="0 shows all of the image in one tile", examples=[1])]
Column = Annotated[int, Path(ge=0, description="number of the tile in its row, from 0", examples=[0])]
Row = Annotated[int, Path(ge=0, description="number of the row of tiles, from 0", examples=[0])]


def add_routes(api: FastAPI, service: Service) -> None:
    @api.get(
        "/v1/images/{image_id}/tiles/{level}/{x}/{y}",
        summary="Download a tile",
        name="get_image_tile",
        response_class=Response,
        responses={200: {"content": PICTURE_CONTENT}, **problem_responses(404, 413, 422, 503)},
        tags=["images"],
    )
    async def get_tile(image_id: ImageId, level: Level, x: Column, y: Row, request: Request) -> Response:
        """A square of the image as models see it, for viewers such as OpenSeadragon: `tiles` of the image says how many
        pixels a side it has, and how many levels there are. Level 0 is all of the image in one tile, each next level
        has twice the pixels a side, and the last one is the image itself. Tiles do not overlap; those at the right and
        the bottom edge are smaller. PNG where the header Accept names image/png, otherwise JPEG."""
        record = await service.images.get_record(current_tenant(), image_id)
        check_tile(record.size, level, x, y)
        picture_format = choose_picture_format(request)
        tag = picture_tag(image_id, level, x, y, picture_format)
        if (unchanged := unchanged_response(request, tag)) is not None:
            return unchanged
        content = await render_tile(service, record, level, x, y, picture_format)
        return Response(content, media_type=f"image/{picture_format}", headers=picture_headers(tag))
