"""Requests that pages of other origins make in a user's browser: they are refused, also on loopback.

Two attacks need no access to the network of the service, only a user who visits a page:

- DNS rebinding: the page's own name resolves to the address of the service, so that the browser counts both as one
  origin. `AllowedHosts` refuses it by the header Host, which then has the page's name.
- CSRF (cross-site request forgery): the page sends a request that needs no preflight, such as a form. `OriginCheck`
  refuses it by the headers Origin and Sec-Fetch-Site, which no page can change. Programs send neither.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from segserve.errors import quote
from segserve.metrics import Metrics
from segserve.settings import Settings
from segserve.wire.http.problems import problem_response

# They hold no user data and change nothing. Health checks and Prometheus call them by names that nobody lists.
OPERATOR_PATHS = {"/livez", "/readyz", "/metrics"}
ORIGIN_NOT_ALLOWED = "origin_not_allowed"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# Values of Sec-Fetch-Site: the page is of this origin, or the user typed the address.
OWN_SITES = {"same-origin", "none"}
# host, host:port, [IPv6] or [IPv6]:port. Group 1 is the host.
HOST_HEADER = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")

log = structlog.get_logger(__name__)


def header_values(scope: Scope, name: bytes) -> list[str]:
    """All values of a header. name: in lower case."""
    return [value.decode("latin-1").strip(" \t") for key, value in scope["headers"] if key == name]


def parse_host(header: str) -> str | None:
    """The name or address of a Host header, in lower case, without port, brackets and final dot. None if malformed."""
    match = HOST_HEADER.fullmatch(header)
    return None if match is None else match[1].strip("[]").lower().rstrip(".") or None


@lru_cache(maxsize=1024)  # of names; each request asks
def is_loopback(host: str) -> bool:
    """Whether a name or an address is of this machine only. Browsers never ask DNS for names under localhost."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_same_address(host: str, address: str) -> bool:
    """Whether both are the same IP address, in whatever spelling."""
    try:
        return ip_address(host) == ip_address(address)
    except ValueError:
        return False


class HostNames:
    """The hosts by which the service may be called.

    names: "segserve.example.org", "*.example.org" for all names under it, "*" for any. Loopback, the address that the
    service is bound to, and the address that a connection arrived at are always allowed. Without names, any host is
    allowed if the service is bound to an address that other machines reach: it cannot know its names.
    """

    def __init__(self, settings: Settings) -> None:
        names = [name.lower().rstrip(".") for name in settings.allowed_hosts]
        self._any = settings.accepts_any_host
        self._names = {settings.host.lower(), *names}
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))

    def allow(self, host: str, local_address: str | None) -> bool:
        """host: as `parse_host` returns it. local_address: that the connection arrived at."""
        return (
            self._any
            or host in self._names
            or is_loopback(host)
            or host.endswith(self._suffixes)
            or (local_address is not None and is_same_address(host, local_address))
        )


class AllowedHosts:
    """Middleware that refuses requests whose Host is missing, malformed, stated twice, or not allowed.

    OPERATOR_PATHS answer to any Host. gRPC has no such check: no browser speaks it.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._hosts, self._metrics = app, HostNames(settings), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._check(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _check(self, scope: Scope) -> Response | None:
        headers = header_values(scope, b"host")
        is_operator = scope["path"] in OPERATOR_PATHS
        is_old_check = (
            is_operator and scope["http_version"] != "1.1"
        )  # HTTP/1.0, as some load balancers speak it
        if len(headers) > 1 or (not headers and not is_old_check):
            return problem_response(
                HTTPStatus.BAD_REQUEST,
                "bad_host",
                "The header Host is missing." if not headers else "There are several headers Host.",
                field="host",
                remedy="Send one.",
            )
        if is_operator:
            return None
        host = parse_host(headers[0])
        if host is None:
            return problem_response(
                HTTPStatus.BAD_REQUEST,
                "bad_host",
                "The header Host is no host.",
                field="host",
                remedy="Send a name or an address, and a port.",
            )
        server = scope.get("server")
        if self._hosts.allow(host, server[0] if server else None):
            return None
        self._metrics.requests.count_rejection("host")
        return problem_response(
            HTTPStatus.MISDIRECTED_REQUEST,
            "host_not_allowed",
            f"This service is not called {quote(host)}.",
            field="host",
            remedy="Call it by a loopback name or its address, or ask the operator to add the host to"
            " SEGSERVE_ALLOWED_HOSTS.",
        )


class AllowedOrigins:
    """The origins, besides the service's own, whose pages may use it. origins: "https://labels.example.org", or "*"."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = {origin.lower() for origin in origins}

    def __contains__(self, origin: str) -> bool:
        return "*" in self._origins or origin.lower() in self._origins


class OriginCheck:
    """Middleware that refuses requests of pages of other origins, unless they only read or their origin is allowed.

    Without Origin and Sec-Fetch-Site the client is no browser, and passes. The origin `null`, which files and sandboxed
    frames have, is another one.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], metrics: Metrics) -> None:
        self._app, self._allowed, self._metrics = app, AllowedOrigins(origins), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._check(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _check(self, scope: Scope) -> Response | None:
        origins = header_values(scope, b"origin")
        sites = header_values(scope, b"sec-fetch-site")
        if origins and all(origin in self._allowed for origin in origins):
            return None
        own_hosts = [value.lower() for value in header_values(scope, b"host")]
        is_own = all(origin_host(o) in own_hosts for o in origins)
        if scope["method"] in SAFE_METHODS:
            if not is_own:  # it is answered, and the browser keeps the answer from the page
                log_refused_origin(origins[0])
            return None
        if is_own and OWN_SITES.issuperset(sites):
            return None
        self._metrics.requests.count_rejection("origin")
        return refuse_origin(origins[0] if origins else "", HTTPStatus.FORBIDDEN)


def log_refused_origin(origin: str) -> None:
    """Log that a page of this origin cannot use the service: neither the page nor its developer is told why."""
    reason = "SEGSERVE_CORS_ORIGINS does not name the origin"
    log.info("refused", code=ORIGIN_NOT_ALLOWED, origin=quote(origin), reason=reason)


def refuse_origin(origin: str, status: HTTPStatus) -> Response:
    log_refused_origin(origin)
    return problem_response(
        status,
        ORIGIN_NOT_ALLOWED,
        "Pages of other origins may not do this.",
        field="origin",
        remedy="Ask the operator to add the page's origin to SEGSERVE_CORS_ORIGINS. If it is the service's own page"
        " behind a proxy, let the proxy pass the header Host.",
    )


def origin_host(origin: str) -> str | None:
    """host:port of an origin, in lower case, as its requests have it in Host. None for `null`, or if malformed."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
