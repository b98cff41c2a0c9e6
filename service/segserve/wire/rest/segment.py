"""POST /v1/segment: masks for points, boxes and masks."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import BadInput
from segserve.types import Select
from segserve.wire.http import request_body
from segserve.wire.operations import segment
from segserve.wire.rest.responses import BINARY, json_response, problem_responses
from segserve.wire.results import masks
from segserve.wire.schemas.segment import SegmentIn, SegmentOut


def add_routes(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/segment",
        response_model=SegmentOut,
        openapi_extra=request_body.json_body_schema(SegmentIn),
        responses={
            200: {"content": {"image/png": BINARY}},
            **problem_responses(400, 404, 408, 409, 413, 415, 422, 503),
        },
        tags=["segment"],
    )
    async def segment_image(request: Request) -> Response:
        """Find masks for prompts on an image. `Accept: image/png` answers a single mask as the picture itself."""
        body = await request_body.read_json(request, SegmentIn)
        if "image/png" in request.headers.get("accept", ""):
            return await answer_png(request, body)
        timings = service.new_timings()
        result = await segment.segment(
            service, body, masks.create_renderer(body.format, body.tolerance), timings
        )
        request.state.model = result.model
        return json_response(masks.segment_to_json(result), timings=timings)

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
            mask.rendered, media_type="image/png", headers={"Server-Timing": timings.server_timing()}
        )
