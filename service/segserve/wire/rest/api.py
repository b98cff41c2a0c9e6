"""The ASGI applications: routes and middleware put together."""

from collections.abc import Sequence

from fastapi import FastAPI

from segserve import __version__
from segserve.app import EncodingService, Service
from segserve.request_limits import RequestKind
from segserve.types import MB
from segserve.wire.frontends.error_form import FrontendErrors
from segserve.wire.frontends.frontend import Frontend
from segserve.wire.frontends.mounting import add_frontend_routes, list_enabled, with_frontends
from segserve.wire.http import browser_headers, problems
from segserve.wire.http.authentication import Authentication, guard_routes
from segserve.wire.http.body_limits import BodyPaceLimit, BodySizeLimit
from segserve.wire.http.host_and_origin import AllowedHosts, OriginCheck
from segserve.wire.http.limits import upload_limits
from segserve.wire.http.middleware import HeadAsGet, InFlightLimit, RequestLogger, request_kind
from segserve.wire.rest import (
    automatic,
    direct_uploads,
    file_frames,
    files,
    health_and_metrics,
    image_tiles,
    images,
    instances,
    jobs,
    labels,
    login,
    models,
    pages,
    segment,
    semantic,
    sign_in,
    similar,
    tenants,
    usage,
)
from segserve.wire.rest.openapi import LICENCE, SERVERS, TAGS, Api, operation_id

ROUTES = (
    images,
    image_tiles,
    segment,
    automatic,
    similar,
    semantic,
    instances,
    files,
    direct_uploads,
    file_frames,
    labels,
    jobs,
    models,
    usage,
    login,
    sign_in,
    tenants,
)


def create_operator_api(service: EncodingService) -> FastAPI:
    """The application of the operators' port, and of an encoder or job worker: health and metrics only."""
    api = FastAPI(
        title="segserve",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # see `pages`
        redirect_slashes=False,  # the redirect would repeat the client's Host
    )
    problems.install_error_handlers(api)
    health_and_metrics.add_routes(api, service)
    guard_routes(api)
    if service.authenticators is not None:
        api.add_middleware(Authentication, authenticators=service.authenticators, metrics=service.metrics)
    api.add_middleware(HeadAsGet)
    api.add_middleware(browser_headers.SecurityHeaders, origins=())
    return api


def create_api(service: Service, *, is_shared: bool = False) -> FastAPI:
    """The application of the API: all routes, and those of the frontends. is_shared: several processes answer on its
    port."""
    frontends = list_enabled(service.settings)
    api = Api(
        title="segserve",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the redirect would repeat the client's Host
        summary="Encode an image once, then answer every prompt on it in milliseconds.",
        license_info=LICENCE,
        servers=SERVERS,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
    )
    problems.install_error_handlers(api)
    for routes in ROUTES:
        routes.add_routes(api, service)
    health_and_metrics.add_routes(api, service, is_shared=is_shared)
    pages.add_routes(api)
    add_frontend_routes(api, service, frontends)
    guard_routes(api)
    add_middleware(api, service, frontends)
    return api


def add_middleware(api: FastAPI, service: Service, frontends: Sequence[Frontend]) -> None:
    """Add all middleware. The one added last sees a request first."""
    settings = service.settings
    api.add_middleware(
        BodySizeLimit,
        limits=upload_limits(settings, [prefix for each in frontends for prefix in each.upload_prefixes]),
        default=settings.max_request_mb * MB,
        memory=service.request_limits.body_memory_mb,
    )
    api.add_middleware(BodyPaceLimit, timeout_s=settings.body_timeout_s)
    api.add_middleware(
        InFlightLimit,
        metrics=service.metrics,
        limits=service.request_limits,
        rates=service.request_rates,
        kind_of=with_frontends(request_kind, frontends),
        busy_checks={RequestKind.CLICK: service.click_limit.refusal},
    )
    if service.authenticators is not None:
        api.add_middleware(
            Authentication,
            authenticators=service.authenticators,
            metrics=service.metrics,
            grants=service.grants,
        )
    api.add_middleware(OriginCheck, origins=settings.cors_origins, metrics=service.metrics)
    api.add_middleware(AllowedHosts, settings=settings, metrics=service.metrics)
    api.add_middleware(RequestLogger, metrics=service.metrics, audit=service.audit)
    api.add_middleware(FrontendErrors, frontends=frontends)
    api.add_middleware(HeadAsGet)
    if settings.cors_origins:
        api.add_middleware(browser_headers.Preflights, **browser_headers.cors_options(settings.cors_origins))
    api.add_middleware(browser_headers.SecurityHeaders, origins=settings.cors_origins)
