"""/livez, /readyz, /version and /metrics, for operators, load balancers and Prometheus."""

from fastapi import FastAPI
from fastapi.responses import Response

from segserve import __version__
from segserve.app import EncodingService
from segserve.errors import NotAllowed
from segserve.wire.rest.responses import TEXT, json_response
from segserve.wire.schemas.health import LiveOut, ReadyOut, VersionOut

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"  # media type


def add_routes(api: FastAPI, service: EncodingService, *, is_shared: bool = False) -> None:
    """is_shared: several processes answer on this port, so that nobody knows whose metrics a request would meet."""

    @api.get("/livez", summary="Is the process alive?", response_model=LiveOut, tags=["operation"])
    async def livez() -> Response:
        """The process is alive."""
        return json_response({"status": "alive"})

    @api.get(
        "/readyz",
        summary="Would a click be answered?",
        response_model=ReadyOut,
        responses={503: {"model": ReadyOut, "description": "A click would not be answered."}},
        tags=["operation"],
    )
    async def readyz() -> Response:
        """Whether a click would be answered. degraded: only on images whose embeddings this process holds, or only on
        images that were encoded before, or there are no jobs; `checks` says which."""
        status, checks = await service.check_readiness()
        return json_response({"status": status, "checks": checks}, 503 if status == "unavailable" else 200)

    @api.get("/version", summary="Which version is it?", response_model=VersionOut, tags=["operation"])
    async def show_version() -> Response:
        """The version of this service."""
        return json_response({"version": __version__})

    @api.get(
        "/metrics",
        summary="Read the metrics",
        tags=["operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": TEXT}}},
    )
    async def metrics() -> Response:
        """The metrics in the text format of Prometheus."""
        if is_shared:
            raise NotAllowed(
                "Several processes answer here, and each has metrics of its own.",
                remedy="Start the service with --operator-port, and read that port and the ones after it.",
            )
        return Response(service.metrics.expose(), media_type=PROMETHEUS_TEXT)
