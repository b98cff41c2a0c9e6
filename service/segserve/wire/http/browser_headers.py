"""What browsers are told: which pages may call the API, and what a page of ours may load."""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DOCS_CDN = "https://cdn.jsdelivr.net/npm/"  # where FastAPI's reference takes its script and style from
DOCS_ICON = "https://fastapi.tiangolo.com/img/favicon.png"
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def hashes(tag: str, html: str) -> str:
    """The inline contents of each `tag`, as sources of a Content-Security-Policy."""
    contents = re.findall(rf"<{tag}(?![^>]*\ssrc=)[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    digests = (sha256(text.encode()).digest() for text in contents)
    return " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)


def page_policy(html: str) -> str:
    """The page's own script and style, pictures that it makes itself, and calls to this service."""
    return (
        f"{NOTHING}; script-src {hashes('script', html)}; style-src {hashes('style', html)};"
        " img-src blob: data:; connect-src 'self'"
    )


def docs_policy(html: str) -> str:
    """The reference: the CDN's script and style, the few lines that start it, styles that it sets itself."""
    return (
        f"{NOTHING}; script-src {DOCS_CDN} {hashes('script', html)}; style-src {DOCS_CDN} 'unsafe-inline';"
        f" img-src 'self' data: {DOCS_ICON}; connect-src 'self'"
    )


def cors(origins: Sequence[str]) -> dict[str, Any]:
    """Options of starlette's CORSMiddleware. No credentials: there are neither cookies nor logins."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
        "allow_headers": ["Content-Type", "X-Request-ID"],
        "expose_headers": ["Server-Timing", "X-Request-ID", "Retry-After", "Segserve-Areas"],
    }


class SecureHeaders:
    """Sets what every answer says to browsers, unless its route has said it already.

    shared: pages of other origins are meant to use the service.
    """

    def __init__(self, app: ASGIApp, shared: bool) -> None:
        self._app = app
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "cross-origin" if shared else "same-origin",
            "Content-Security-Policy": NOTHING,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, answer if scope["type"] == "http" else send)
