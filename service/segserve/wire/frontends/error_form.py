"""ASGI middleware that turns problem documents into refusals in the form of a frontend's protocol.

It stands outside of every limit and check, so that what they refuse has the right form too: a client of a frontend
reads no problem document. The log and the metrics, which stand inside, know the problem's own status and code.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.mounting import find_frontend
from segserve.wire.http.problems import MEDIA_TYPE, TYPE_PREFIX


class FrontendErrors:
    """Middleware that writes the refusals of `frontends` in their own form."""

    def __init__(self, app: ASGIApp, frontends: Sequence[Frontend]) -> None:
        self._app, self._frontends = app, frontends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        frontend = find_frontend(self._frontends, scope["path"]) if scope["type"] == "http" else None
        if frontend is None:
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # of a problem document, until its body is complete
        body = b""

        async def send_in_form(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and is_problem(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    content = write_refusal(frontend, start, body, scope["path"])
                    await send(start)
                    await send({"type": "http.response.body", "body": content})

        await self._app(scope, receive, send_in_form)


def is_problem(start: Message) -> bool:
    """Whether a response that starts so is a problem document."""
    return (b"content-type", MEDIA_TYPE.encode()) in start["headers"]


def write_refusal(frontend: Frontend, start: Message, body: bytes, path: str) -> bytes:
    """Return the body in the frontend's form, and give `start` its status and its headers.

    start: of the problem document. body: the document.
    """
    status, content = frontend.write_refusal(read_refusal(orjson.loads(body), path))
    data = orjson.dumps(content)
    start["status"] = status
    headers = MutableHeaders(scope=start)
    headers["content-type"], headers["content-length"] = "application/json", str(len(data))
    return data


def read_refusal(problem: dict[str, Any], path: str) -> Refusal:
    return Refusal(
        status=problem["status"],
        code=problem["type"].removeprefix(TYPE_PREFIX),
        detail=problem["detail"],
        remedy=problem.get("remedy", ""),
        field=problem.get("field", ""),
        path=path,
    )
