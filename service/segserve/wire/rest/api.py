"""The REST API: convert, call, convert back. One module a group of routes."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from segserve.app import MB, Service
from segserve.wire.http import browser_headers, problems, request_body
from segserve.wire.http.middleware import HeadAsGet, InFlight, LimitBody, Observe, Pace
from segserve.wire.rest import (
    automatic,
    files,
    health_and_metrics,
    images,
    instances,
    jobs,
    models,
    pages,
    segment,
    semantic,
)
from segserve.wire.schemas.automatic import AutomaticIn
from segserve.wire.schemas.common import FetchImageIn, SegmentIn
from segserve.wire.schemas.instances import InstancesIn
from segserve.wire.schemas.jobs import JobIn
from segserve.wire.schemas.propagation import AddPromptsIn
from segserve.wire.schemas.semantic import SemanticIn

MULTIPART_SLACK = 1 << 20  # boundaries and headers around the file
ROUTES = (images, segment, automatic, semantic, instances, files, jobs, models, health_and_metrics)
BODIES = (
    SegmentIn,
    AutomaticIn,
    SemanticIn,
    InstancesIn,
    JobIn,
    AddPromptsIn,
    FetchImageIn,
)  # read by `body.read_json`


class Api(FastAPI):
    """Its OpenAPI document holds the bodies that are read by `body.read_json` too."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["components"]["schemas"].update(request_body.json_components(BODIES))
        return document


def living(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The service starts and stops with the application."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    return lifespan


def create_worker_api(service: Service) -> FastAPI:
    """What a worker answers over HTTP."""
    api = FastAPI(
        title="segserve", version=version("segserve"), lifespan=living(service), docs_url=None, redoc_url=None
    )
    problems.install(api)
    health_and_metrics.add(api, service)
    api.add_middleware(browser_headers.SecureHeaders, shared=False)
    return api


def create_api(service: Service) -> FastAPI:
    """The ASGI application of the service."""
    api = Api(
        title="segserve",
        version=version("segserve"),
        lifespan=living(service),
        docs_url=None,
        redoc_url=None,
        summary="Encode an image once, then answer every prompt on it in milliseconds.",
    )
    problems.install(api)
    for routes in ROUTES:
        routes.add(api, service)
    pages.add(api)
    settings = service.settings
    image_limit = settings.max_image_mb * MB + MULTIPART_SLACK
    file_limit = settings.max_file_mb * MB + MULTIPART_SLACK
    # The last one added is the first to see a request.
    api.add_middleware(
        LimitBody,
        limits={"/v1/images": image_limit, "/v1/files": file_limit},
        default=settings.max_request_mb * MB,
    )
    api.add_middleware(Pace, timeout_s=settings.body_timeout_s)
    api.add_middleware(
        InFlight,
        metrics=service.metrics,
        most=settings.max_in_flight,
        crowded={"/v1/segment": service.click_limit.refusal},
    )
    api.add_middleware(Observe, metrics=service.metrics)
    api.add_middleware(HeadAsGet)
    if settings.cors_origins:
        api.add_middleware(CORSMiddleware, **browser_headers.cors(settings.cors_origins))
    api.add_middleware(browser_headers.SecureHeaders, shared=bool(settings.cors_origins))
    return api
