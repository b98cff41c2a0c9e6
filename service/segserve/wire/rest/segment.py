"""POST /v1/segment: masks for points, boxes and masks; POST /v1/segment.png: one mask as a picture."""

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import BadInput
from segserve.types import Select
from segserve.wire.http import request_body
from segserve.wire.http.limits import MAX_EVENT_LOOP_MASKS
from segserve.wire.operations import segment
from segserve.wire.rest.image_routes import add_image_route
from segserve.wire.rest.responses import BINARY, hint_headers, json_response, problem_responses
from segserve.wire.results import masks
from segserve.wire.schemas.segment import SegmentIn, SegmentOut

REFUSALS = problem_responses(400, 404, 408, 409, 413, 415, 422, 503)


def add_routes(api: FastAPI, service: Service) -> None:
    @add_image_route(
        api,
        "segment",
        SegmentIn,
        summary="Find the masks of prompts",
        response_model=SegmentOut,
        responses=REFUSALS,
        tags=["segment"],
    )
    async def segment_image(request: Request) -> Response:
        """Find masks for points, boxes and masks on an image. With the header `Accept: image/png` it answers as POST
        /v1/segment.png does."""
        body = await request_body.read_json(request, SegmentIn)
        if "image/png" in request.headers.get("accept", ""):
            return await answer_png(request, body)
        timings = service.new_timings()
        result = await segment.segment(
            service, body, masks.create_renderer(body.format, body.tolerance), timings
        )
        request.state.model = result.model
        content = masks.segment_to_json(result)
        if result.mask_count <= MAX_EVENT_LOOP_MASKS:
            return json_response(content, timings=timings)
        return await asyncio.to_thread(json_response, content, timings=timings)

    @add_image_route(
        api,
        "segment.png",
        SegmentIn,
        summary="Find one mask, as a picture",
        response_class=Response,
        responses={200: {"content": {"image/png": BINARY}}, **REFUSALS},
        tags=["segment"],
    )
    async def segment_image_as_png(request: Request) -> Response:
        """Find the mask of one prompt. The answer is a 1-bit PNG of the image's size; `format` has no effect."""
        return await answer_png(request, await request_body.read_json(request, SegmentIn))

    async def answer_png(request: Request, body: SegmentIn) -> Response:
        if len(body.prompts) > 1 or body.select is Select.ALL:
            raise BadInput(
                "image/png holds one mask, and more were requested.",
                field="prompts",
                remedy="Send one prompt with select 'best' or 'first', or accept application/json.",
            )
        timings = service.new_timings()
        result = await segment.segment(service, body, masks.mask_to_png, timings)
        request.state.model = result.model
        [[mask]] = result.results
        return Response(
            mask.rendered,
            media_type="image/png",
            headers={"Server-Timing": timings.server_timing(), **hint_headers(result.hints)},
        )
