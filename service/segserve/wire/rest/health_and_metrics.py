"""What operators ask."""

from fastapi import FastAPI
from fastapi.responses import Response

from segserve.app import Service
from segserve.wire.rest.responses import json
from segserve.wire.schemas.common import ReadyOut

STANDARD_METRICS = "text/plain; version=0.0.4; charset=utf-8"


def add(api: FastAPI, service: Service) -> None:
    @api.get("/livez", tags=["operation"])
    async def livez() -> Response:
        """The process answers."""
        return json({"status": "alive"})

    @api.get("/readyz", response_model=ReadyOut, responses={503: {"model": ReadyOut}}, tags=["operation"])
    async def readyz() -> Response:
        """Would a click work? Degraded: on images that this process holds."""
        status, checks = await service.readiness()
        return json({"status": status, "checks": checks}, 503 if status == "unavailable" else 200)

    @api.get("/metrics", tags=["operation"], responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        return Response(service.metrics.expose(), media_type=STANDARD_METRICS)
