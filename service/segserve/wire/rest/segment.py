"""Masks for prompts."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.errors import BadInput
from segserve.types import Select
from segserve.wire.http import request_body
from segserve.wire.operations import segment as ask
from segserve.wire.rest.responses import json, refusals
from segserve.wire.results import masks
from segserve.wire.schemas.common import SegmentIn, SegmentOut


def add(api: FastAPI, service: Service) -> None:
    @api.post(
        "/v1/segment",
        response_model=SegmentOut,
        openapi_extra=request_body.json_schema(SegmentIn),
        responses={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            **refusals(400, 404, 408, 409, 413, 415, 422, 503),
        },
        tags=["segment"],
    )
    async def segment(request: Request) -> Response:
        """Masks for prompts on an image. `Accept: image/png` answers a single mask as the picture itself."""
        timings = service.new_timings()
        asked = await request_body.read_json(request, SegmentIn)
        if "image/png" in request.headers.get("accept", ""):
            if len(asked.prompts) > 1 or asked.select is Select.ALL:
                raise BadInput(
                    "image/png holds one mask, and more were asked for.",
                    field="prompts",
                    remedy="Send one prompt with select 'best' or 'first', or accept application/json.",
                )
            shown = await ask.segment(service, asked, masks.picture, timings)
            request.state.model = shown.model
            [[found]] = shown.results
            return Response(
                found.rendered, media_type="image/png", headers={"Server-Timing": timings.server_timing()}
            )
        answer = await ask.segment(service, asked, masks.formatter(asked.format), timings)
        request.state.model = answer.model
        return json(masks.segmentation(answer), timings=timings)
