"""What surrounds every request: its id, its time, its size, its pace, and the last resort for errors."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segserve.errors import Busy, TooLarge, TooSlow
from segserve.metrics import Metrics
from segserve.wire.http.problems import from_error, problem
from segserve.wire.http.protocol import MIN_BYTES_PER_S, SURPLUS

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
ID_HEADER = b"x-request-id"
REJECTIONS = {408: "body_timeout", 413: "too_large"}  # what these answers are counted as

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

        self._metrics.requests.in_flight.inc()
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
            self._metrics.requests.in_flight.dec()
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            model = scope.get("state", {}).get("model", "")
            self._metrics.requests.record(route, scope["method"], model, str(status), seconds)
            if status in REJECTIONS:
                self._metrics.requests.count_rejection(REJECTIONS[status])
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


class InFlight:
    """Refuses at once what would be more than `most` requests to /v1 at a time, and what comes on surplus
    connections, which are then closed; operators always get in.

    crowded: what else would be refused in the end, by path: said before anything is read, it costs least.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, most: int, crowded: dict[str, Callable[[], Busy | None]]
    ) -> None:
        self._app, self._metrics, self._most, self._crowded = app, metrics, most, crowded
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        if scope.get("state", {}).get(SURPLUS):
            self._metrics.requests.count_rejection("connections")
            busy = Busy(
                "As many connections are open as are taken.",
                remedy="Try again soon, or ask the operator to raise SEGSERVE_MAX_CONNECTIONS.",
            )
            answer = from_error(busy)
            answer.headers["connection"] = "close"
            await answer(scope, receive, send)
            return
        if self._running >= self._most:
            self._metrics.requests.count_rejection("in_flight")
            busy = Busy(
                f"{self._most} requests are being answered, which is as many as are taken at once.",
                remedy="Try again in a second, or ask the operator to raise SEGSERVE_MAX_IN_FLIGHT.",
                retry_after_s=1,
            )
            await from_error(busy)(scope, receive, send)
            return
        crowded = self._crowded.get(scope["path"])
        if crowded is not None and (refusal := crowded()) is not None:
            await from_error(refusal)(scope, receive, send)
            return
        self._running += 1
        working = True

        async def tell(message: Message) -> None:
            nonlocal working
            if working and streams_events(message):  # who follows a job waits, and takes nobody's place
                self._running -= 1
                working = False
            await send(message)

        try:
            await self._app(scope, receive, tell)
        finally:
            self._running -= working


def streams_events(message: Message) -> bool:
    started = message["type"] == "http.response.start"
    return started and Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")


class Pace:
    """Refuses a body that stops for `timeout_s`, or that has kept us waiting for longer than that in all and
    comes at less than MIN_BYTES_PER_S. Only the time spent waiting for it counts, not what is done with it.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app, self._timeout_s = app, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ended, slow, seen, waited = False, False, 0, 0.0

        async def arriving() -> Message:
            nonlocal ended, slow, seen, waited
            if ended:  # what is waited for now is that the client hangs up
                return await receive()
            start = time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout_s):
                    message = await receive()
            except TimeoutError:
                slow = True
                raise self._too_slow(seen) from None
            waited += time.perf_counter() - start
            seen += len(message.get("body", b""))
            ended = not message.get("more_body", False)
            if not ended and waited > self._timeout_s and seen < MIN_BYTES_PER_S * waited:
                slow = True
                raise self._too_slow(seen)
            return message

        async def answer(message: Message) -> None:
            nonlocal ended
            ended = True  # from here on a slow body spoils nothing but itself
            if slow and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, arriving, answer)

    def _too_slow(self, seen: int) -> TooSlow:
        return TooSlow(
            f"The body came too slowly: {seen} bytes so far.",
            field="body",
            remedy=f"Send at least {MIN_BYTES_PER_S >> 10} KiB/s, without pauses of {self._timeout_s:g} s.",
        )


class LimitBody:
    """Refuses bodies over a limit, by their stated length at once, else while they come in.

    limits: bytes by path prefix, the first that fits; `default` for all others, and for JSON wherever it is
    sent: it is held in memory whole.
    """

    def __init__(self, app: ASGIApp, limits: dict[str, int], default: int) -> None:
        self._app, self._limits, self._default = app, limits, default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        limit = self._default
        if not headers.get(b"content-type", b"").lower().startswith(b"application/json"):
            limit = next((n for p, n in self._limits.items() if scope["path"].startswith(p)), limit)
        stated = headers.get(b"content-length", b"0")
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
