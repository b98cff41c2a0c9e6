"""A frontend at the root of a port of its own: for clients that can be given a host and a port, and no path.

It is the same application as on the port of REST, with the same limits and checks. Only the frontend's paths are there.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class AtRoot:
    """ASGI application that serves the paths of `api` below `prefix`, without the prefix."""

    def __init__(self, api: ASGIApp, prefix: str) -> None:
        self._api, self._prefix = api, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw_path = self._prefix.encode() + scope["raw_path"]
            scope = {**scope, "path": self._prefix + scope["path"], "raw_path": raw_path}
        await self._api(scope, receive, send)
