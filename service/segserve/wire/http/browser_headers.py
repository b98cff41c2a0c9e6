"""Headers for browsers: CORS says which pages may call the API, Content-Security-Policy what our pages may load."""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segserve.errors import MAX_FIELD_CHARACTERS, quote, shorten
from segserve.wire.http.host_and_origin import AllowedOrigins, header_values, refuse_origin
from segserve.wire.http.problems import problem_response

PREFLIGHT_REFUSED = "preflight_refused"
DENY_ALL = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# The page: files of this service only, nothing inline. Decoding in the browser needs WebAssembly; pictures and videos
# may be made from what was downloaded.
PAGE_POLICY = (
    f"{DENY_ALL}; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:;"
    " media-src 'self' blob:; connect-src 'self'; worker-src 'self'"
)

log = structlog.get_logger(__name__)


def inline_hashes(tag: str, html: str) -> str:
    """The hashes of the inline contents of each `tag`, as sources of a Content-Security-Policy."""
    contents = re.findall(rf"<{tag}(?![^>]*\ssrc=)[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    digests = (sha256(text.encode()).digest() for text in contents)
    return " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)


def docs_policy(html: str) -> str:
    """The policy of /docs: Swagger UI from this service, the inline script that starts it, and styles that it sets."""
    return (
        f"{DENY_ALL}; script-src 'self' {inline_hashes('script', html)}; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data:; connect-src 'self'"
    )


def cors_options(origins: Sequence[str]) -> dict[str, Any]:
    """Options of `Preflights`. Credentials are not allowed: cookies are for the page alone."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
        "allow_headers": [
            "Authorization",
            "Content-Type",
            "X-API-Key",
            "X-Request-ID",
            "Idempotency-Key",
            "Last-Event-ID",
            # Of OpenTelemetry in a page, which adds them to every request. The service does not read them.
            "traceparent",
            "tracestate",
            "baggage",
        ],
        "expose_headers": [
            "Server-Timing",
            "X-Request-ID",
            "Retry-After",
            "RateLimit",
            "RateLimit-Policy",
            "Segserve-Areas",
            "Segserve-Hints",
            "Segserve-Scale",
            "Segserve-Tiled",
            "ETag",
            "WWW-Authenticate",
            "Content-Disposition",
        ],
    }


class Preflights(CORSMiddleware):
    """CORSMiddleware whose refusals of preflights are logged, and say what is refused and what to do. No page can read
    them: a browser shows only that the request failed, and lists them among the requests of the page."""

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        origin = request_headers["origin"]
        if self.is_allowed_origin(origin):
            refusal = self._refuse_request(origin, request_headers)
        else:
            refusal = refuse_origin(origin, HTTPStatus.BAD_REQUEST)
        cors = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        refusal.headers.update(cors)
        return refusal

    def _refuse_request(self, origin: str, request_headers: Headers) -> Response:
        """Refuse the method or a header of an origin that is allowed."""
        names = [
            name.strip().lower()
            for name in request_headers.get("access-control-request-headers", "").split(",")
        ]
        unknown = [name for name in names if name and name not in self.allow_headers]
        what = f"the header {quote(unknown[0])}" if unknown else "this method"
        log.info("refused", code=PREFLIGHT_REFUSED, origin=quote(origin), reason=what)
        return problem_response(
            HTTPStatus.BAD_REQUEST,
            PREFLIGHT_REFUSED,
            f"Pages of other origins may not send {what}.",
            field=shorten(unknown[0], MAX_FIELD_CHARACTERS) if unknown else None,
            remedy=f"Leave it out. Allowed are: {', '.join(self.allow_headers if unknown else self.allow_methods)}.",
        )


# A script that is started as a worker has the policy of its own answer, not the page's. The one that decodes clicks
# loads modules and WebAssembly from this service.
WORKER_POLICY = f"{DENY_ALL}; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'".encode()
DENY_ALL_POLICY = DENY_ALL.encode()
JAVASCRIPT = b"text/javascript"


class SecurityHeaders:
    """Middleware that adds security headers to every answer whose route has not set them.

    origins: whose pages may use the service. Only they may load an answer into their pages
    (Cross-Origin-Resource-Policy). A picture that a page names without `crossorigin` comes without Origin; its Referer
    has the origin then.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app, self._allowed = app, AllowedOrigins(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = dict(message["headers"])
                is_script = present.get(b"content-type", b"").startswith(JAVASCRIPT)
                headers = {
                    b"x-content-type-options": b"nosniff",
                    b"referrer-policy": b"no-referrer",
                    b"content-security-policy": WORKER_POLICY if is_script else DENY_ALL_POLICY,
                    b"cross-origin-resource-policy": b"cross-origin"
                    if self._is_allowed(scope)
                    else b"same-origin",
                }
                missing = [header for header in headers.items() if header[0] not in present]
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)

    def _is_allowed(self, scope: Scope) -> bool:
        origins = header_values(scope, b"origin")
        if not origins:
            origins = ["/".join(url.split("/")[:3]) for url in header_values(scope, b"referer")]
        return bool(origins) and all(origin in self._allowed for origin in origins)
