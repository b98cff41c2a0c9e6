"""What surrounds every request: its id, its time, its size, and the last resort for errors."""

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segserve.errors import TooLarge
from segserve.metrics import Metrics
from segserve.wire.problems import from_error, problem

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
ID_HEADER = b"x-request-id"

log = structlog.get_logger(__name__)


class Observe:
    """Binds the request id to the logs, answers it back, counts and times the request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = given_id(scope) or secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        start, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (ID_HEADER, request_id.encode())]
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, answer)
        except Exception:
            log.exception("internal error")
            if status == 500:  # nothing was sent yet
                await problem(
                    500,
                    "internal_error",
                    "Something went wrong here.",
                    remedy=f"Report request {request_id}.",
                )(scope, receive, answer)
        finally:
            self._metrics.in_flight.dec()
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            model = scope.get("state", {}).get("model", "")
            self._metrics.request(route, scope["method"], model, str(status), seconds)
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                ms=round(1000 * seconds, 1),
            )
            structlog.contextvars.unbind_contextvars("request_id")


def given_id(scope: Scope) -> str | None:
    """The client's X-Request-ID, if it is one that may stand in a log line."""
    for name, value in scope["headers"]:
        text: str = value.decode("latin-1")
        if name == ID_HEADER and REQUEST_ID.fullmatch(text):
            return text
    return None


class HeadAsGet:
    """HEAD is answered wherever GET is; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


class LimitBody:
    """Refuses bodies over a limit, by their stated length at once, else while they come in.

    limits: bytes by path prefix, the first that fits; `default` for all others.
    """

    def __init__(self, app: ASGIApp, limits: dict[str, int], default: int) -> None:
        self._app, self._limits, self._default = app, limits, default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next(
            (n for prefix, n in self._limits.items() if scope["path"].startswith(prefix)), self._default
        )
        stated = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if stated.isdigit() and int(stated) > limit:
            await from_error(too_large(limit))(scope, receive, send)
            return
        seen = 0

        async def count() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large(limit)
            return message

        await self._app(scope, count, send)


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is over {limit / 1e6:g} MB.", field="body", remedy="Send less at once.")
