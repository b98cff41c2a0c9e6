"""ASGI middleware around every request: request id, logs and metrics, HEAD, rates, concurrency limit."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl

import orjson
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segserve.audit_log import AuditLog
from segserve.current_client import current_client
from segserve.errors import Busy, shorten
from segserve.identity.identity import current_identity
from segserve.metrics import Metrics
from segserve.request_limits import RequestKind, RequestLimits
from segserve.request_rates import RateUsage, RequestRates
from segserve.wire.audited_routes import (
    AUTHENTICATE,
    UNAUTHENTICATED,
    describe_sender,
    find_action,
    pick_ids,
)
from segserve.wire.client_address import client_of_scope, find_client
from segserve.wire.http.problems import MEDIA_TYPE, error_to_response, problem_response, read_code
from segserve.wire.http.protocol import SURPLUS

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
ID_HEADER = b"x-request-id"
REJECTION_REASONS = {408: "body_timeout", 413: "too_large"}  # label of the metric, by status
UPLOAD_PATH = re.compile(r"/v1/(images|files|files/[^/]+/labels|uploads/[^/]+/complete)")
CLICK_PATH = re.compile(r"/v1/(images/[^/]+/)?segment(\.png)?")
WATCHER_ENDINGS = ("/events", "/results")
INTERNAL_ERROR = 500
FIRST_ERROR = 400
MAX_LOGGED_PATH = 200  # characters; a request line may have 32 KiB
CREATED = (201, 202)  # their JSON names what was created
MAX_CREATED_BYTES = 64 << 10
PROBE_PATHS = {"/livez", "/readyz", "/metrics"}
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that hangs up; nobody receives it

log = structlog.get_logger(__name__)


class RequestLogger:
    """Binds the request id to the logs and answers it, logs, counts and times the request. An exception that no
    handler knows becomes "internal error" here. A client that hangs up before its body is complete, or breaks it, is
    logged and counted with status 499."""

    def __init__(self, app: ASGIApp, metrics: Metrics, audit: AuditLog) -> None:
        self._app, self._metrics, self._audit = app, metrics, audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = read_request_id(scope) or secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        start, status, problem = time.perf_counter(), INTERNAL_ERROR, ""
        is_problem = False
        created: dict[str, str] = {}

        async def send_with_id(message: Message) -> None:
            nonlocal status, problem, is_problem
            if message["type"] == "http.response.start":
                status = message["status"]
                is_problem = (b"content-type", MEDIA_TYPE.encode()) in message["headers"]
                message["headers"] = [*message["headers"], (ID_HEADER, request_id.encode())]
            elif is_problem:
                problem, is_problem = read_code(message.get("body", b"")), False
            elif self._audit.is_on and status in CREATED and not created:
                created.update(read_ids(message.get("body", b"")))
            await send(message)

        self._metrics.requests.in_flight.inc()
        try:
            await self._app(scope, receive, send_with_id)
            # uvloop writes at the end of a turn of the event loop: the client need not wait for logs and metrics.
            await asyncio.sleep(0)
        except ClientDisconnect:  # in the middle of its body
            if status == INTERNAL_ERROR:
                status = CLIENT_CLOSED_REQUEST
        except Exception:
            log.exception("internal error")
            if status == INTERNAL_ERROR:  # nothing was sent yet
                refusal = problem_response(
                    INTERNAL_ERROR,
                    "internal_error",
                    "Something went wrong here.",
                    remedy=f"Report request {request_id}.",
                )
                await refusal(scope, receive, send_with_id)
        finally:
            self._metrics.requests.in_flight.dec()
            self._record(scope, status, problem, time.perf_counter() - start)
            if self._audit.is_on:
                self._write_audit(scope, request_id, status, problem, created)
            structlog.contextvars.unbind_contextvars("request_id")

    def _record(self, scope: Scope, status: int, problem: str, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        model = scope.get("state", {}).get("model", "")
        self._metrics.requests.record(route, scope["method"], model, str(status), seconds, problem=problem)
        if status in REJECTION_REASONS:
            self._metrics.requests.count_rejection(REJECTION_REASONS[status])
        # Every few seconds: they would hide what users do.
        is_probe = scope["path"] in PROBE_PATHS and status < FIRST_ERROR
        (log.debug if is_probe else log.info)(
            "request",
            method=scope["method"],
            path=shorten(scope["path"], MAX_LOGGED_PATH),
            status=status,
            ms=round(1000 * seconds, 1),
        )

    def _write_audit(
        self, scope: Scope, request_id: str, status: int, problem: str, created: dict[str, str]
    ) -> None:
        """created: the ids that the answer names."""
        method, path = scope["method"], getattr(scope.get("route"), "path", "")
        action = AUTHENTICATE if str(status) in UNAUTHENTICATED else find_action(method, path)
        if action is None:
            return
        address = scope.get("client")
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        self._audit.write(
            action,
            **describe_sender(current_identity.get(), address[0] if address else None, str(status)),
            method=method,
            route=path or shorten(scope["path"], MAX_LOGGED_PATH),
            ids=pick_ids(query) | pick_ids(scope.get("path_params", {})) | created,
            status=str(status),
            problem=problem or None,
            request_id=request_id,
        )


def read_ids(body: bytes) -> dict[str, str]:
    """Return the ids in the JSON of an answer; none where it is something else."""
    if not body.startswith(b"{") or len(body) > MAX_CREATED_BYTES:
        return {}
    try:
        return pick_ids(orjson.loads(body))
    except orjson.JSONDecodeError:
        return {}


def read_request_id(scope: Scope) -> str | None:
    """The client's X-Request-ID, if it is safe in a log line."""
    for name, value in scope["headers"]:
        text: str = value.decode("latin-1")
        if name == ID_HEADER and SAFE_REQUEST_ID.fullmatch(text):
            return text
    return None


class HeadAsGet:
    """Answers HEAD wherever there is GET. uvicorn leaves the body out.

    With the first part of the body the application learns that the client has gone, so that a stream of events, which
    has no end, ends there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        has_body = asyncio.Event()
        has_read = False

        async def receive_until_body() -> Message:
            nonlocal has_read
            if not has_read:
                has_read = True
                return await receive()
            await has_body.wait()
            return {"type": "http.disconnect"}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                if has_body.is_set():
                    return
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)
            if message["type"] == "http.response.body":
                has_body.set()

        await self._app({**scope, "method": "GET"}, receive_until_body, send_head)


class InFlightLimit:
    """Refuses requests at once beyond the rates of their key or address, and while no slot of their kind is free, for
    all or for their client.

    It also tells the limits below who the client is (`current_client`). Requests on surplus connections are refused
    too, and the connection is closed.

    kind_of: returns the kind of a request by its method and path. None: it takes no slot and is always served, as the
        paths of operators are, such as /metrics and /readyz.
    busy_checks: by kind, a function that returns the refusal while the operation cannot take another request. The
    refusal is sent before the body is read.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        limits: RequestLimits,
        rates: RequestRates,
        kind_of: Callable[[str, str], RequestKind | None],
        busy_checks: dict[RequestKind, Callable[[], Busy | None]],
    ) -> None:
        self._app, self._metrics, self._rates = app, metrics, rates
        self._limits, self._kind_of, self._busy_checks = limits, kind_of, busy_checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = self._kind_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if kind is None:
            await self._app(scope, receive, send)
            return
        self._limits.note_request()
        if scope.get("state", {}).get(SURPLUS):
            await self._refuse_connection(scope, receive, send)
            return
        identity, network = current_identity.get(), client_of_scope(scope)
        client = find_client(identity, network)
        current_client.set(client)
        limit = self._limits[kind]
        too_often, usages = await self._rates.check(kind, identity, network)
        if usages:
            send = with_rate_headers(send, usages)
        if (refusal := too_often or limit.refusal(client=client) or self._check_busy(kind)) is not None:
            await error_to_response(refusal)(scope, receive, send)
            return
        with limit.slot(client=client):
            await self._app(scope, receive, send)

    async def _refuse_connection(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._metrics.requests.count_rejection("connections")
        refusal = Busy(
            "The maximum number of connections is open, in all or from this address.",
            remedy="Try again soon, or ask the operator to raise SEGSERVE_MAX_CONNECTIONS.",
        )
        response = error_to_response(refusal)
        response.headers["connection"] = "close"
        await response(scope, receive, send)

    def _check_busy(self, kind: RequestKind) -> Busy | None:
        check = self._busy_checks.get(kind)
        return None if check is None else check()


def with_rate_headers(send: Send, usages: Sequence[RateUsage]) -> Send:
    """Return a `send` that adds RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10)."""
    policies = ", ".join(f'"{usage.policy}";q={usage.quota};w={usage.window_s}' for usage in usages)
    left = ", ".join(f'"{usage.policy}";r={usage.left};t={usage.reset_s}' for usage in usages)
    headers = [(b"ratelimit-policy", policies.encode()), (b"ratelimit", left.encode())]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with_headers


def request_kind(method: str, path: str) -> RequestKind | None:
    """Return the kind of a request to /v1, whose slots it takes; None for other paths."""
    if not path.startswith("/v1/"):
        return None
    if method == "POST" and UPLOAD_PATH.fullmatch(path):
        return RequestKind.UPLOAD
    if method == "POST" and CLICK_PATH.fullmatch(path):
        return RequestKind.CLICK
    if path.startswith("/v1/jobs/") and path.endswith(WATCHER_ENDINGS):
        return RequestKind.WATCH
    return RequestKind.OTHER
