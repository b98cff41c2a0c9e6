"""ASGI middleware that limits request bodies: their pace (slow clients) and their size."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segserve.concurrency_limit import ConcurrencyLimit
from segserve.current_client import current_client
from segserve.errors import TooLarge, TooSlow
from segserve.types import MB
from segserve.wire.body_pace import BodyPace
from segserve.wire.http.limits import UploadLimit
from segserve.wire.http.media_type import JSON, ConflictingTypes, read_media_type
from segserve.wire.http.problems import error_to_response, problem_response


class BodyPaceLimit:
    """Refuses a body that pauses for `timeout_s`, or that makes us wait for longer than this in all at less than
    MIN_BYTES_PER_S. Only the time spent waiting for the body counts, not the time spent using it."""

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self._app, self._timeout_s = app, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_complete, is_slow = False, False
        pace = BodyPace(self._timeout_s, self._timeout_s)

        async def receive_in_time() -> Message:
            nonlocal is_complete, is_slow
            if is_complete:  # the application waits for the client to hang up
                return await receive()
            try:
                message = await pace.wait_for(receive())
                is_complete = not message.get("more_body", False)
                pace.count(len(message.get("body", b"")), is_last=is_complete)
            except TooSlow:
                is_slow = True
                raise
            return message

        async def send_and_close(message: Message) -> None:
            nonlocal is_complete
            is_complete = True  # the answer has begun: the rest of the body no longer matters
            if is_slow and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive_in_time, send_and_close)


class BodySizeLimit:
    """Refuses a body over a limit: at once by its Content-Length, otherwise while it comes in.

    limits: by prefix of the path; the first that fits holds.
    default: bytes for all other paths, and for JSON on every path, since JSON is held in memory.
    memory: MB of such bodies that are held at the same time.

    Two types for one body are refused: the limit could follow one of them, and the reader the other.
    """

    def __init__(
        self, app: ASGIApp, limits: Mapping[str, UploadLimit], default: int, memory: ConcurrencyLimit
    ) -> None:
        self._app, self._limits, self._default, self._memory = app, limits, default, memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            media_type = read_media_type(scope["headers"])
        except ConflictingTypes:
            await conflicting_types_response()(scope, receive, send)
            return
        headers = dict(scope["headers"])
        upload = None
        if media_type != JSON:
            upload = next((n for p, n in self._limits.items() if scope["path"].startswith(p)), None)
        limit = self._default if upload is None else upload.max_bytes
        refusal = body_too_large(limit) if upload is None else upload.refusal()
        content_length = headers.get(b"content-length", b"0")
        if content_length.isdigit() and int(content_length) > limit:
            await error_to_response(refusal)(scope, receive, send)
            return
        is_in_memory = upload is None
        received_bytes, held_mb, client = 0, 0, current_client.get()

        async def receive_and_count() -> Message:
            nonlocal received_bytes, held_mb
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > limit:
                raise refusal
            if is_in_memory and (more_mb := received_bytes // MB - held_mb) > 0:
                self._memory.acquire(more_mb, client)
                held_mb += more_mb
            return message

        try:
            await self._app(scope, receive_and_count, send)
        finally:
            self._memory.release(held_mb, client)


def conflicting_types_response() -> Response:
    return problem_response(
        HTTPStatus.BAD_REQUEST,
        "bad_request",
        "There are several headers Content-Type.",
        field="content-type",
        remedy="Send one.",
    )


def body_too_large(limit: int) -> TooLarge:
    """limit: bytes."""
    return TooLarge(f"The body is over {limit / 1e6:g} MB.", field="body", remedy="Send less at once.")
