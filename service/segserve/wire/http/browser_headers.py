"""Headers for browsers: CORS says which pages may call the API, Content-Security-Policy what our pages may load."""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DOCS_CDN = "https://cdn.jsdelivr.net/npm/"  # FastAPI's /docs loads its script and style from here
DOCS_ICON = "https://fastapi.tiangolo.com/img/favicon.png"
DENY_ALL = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def inline_hashes(tag: str, html: str) -> str:
    """The hashes of the inline contents of each `tag`, as sources of a Content-Security-Policy."""
    contents = re.findall(rf"<{tag}(?![^>]*\ssrc=)[^>]*>(.*?)</{tag}>", html, re.DOTALL)
    digests = (sha256(text.encode()).digest() for text in contents)
    return " ".join(f"'sha256-{b64encode(digest).decode()}'" for digest in digests)


def page_policy(html: str) -> str:
    """The policy of the page: its own script and style, pictures that it makes itself, calls to this service."""
    return (
        f"{DENY_ALL}; script-src {inline_hashes('script', html)}; style-src {inline_hashes('style', html)};"
        " img-src blob: data:; connect-src 'self'"
    )


def docs_policy(html: str) -> str:
    """The policy of /docs: the CDN's script and style, the inline script that starts it, and styles that it sets."""
    return (
        f"{DENY_ALL}; script-src {DOCS_CDN} {inline_hashes('script', html)}; style-src {DOCS_CDN} 'unsafe-inline';"
        f" img-src 'self' data: {DOCS_ICON}; connect-src 'self'"
    )


def cors_options(origins: Sequence[str]) -> dict[str, Any]:
    """Options of starlette's CORSMiddleware. Credentials are not allowed: there are no cookies and no logins."""
    return {
        "allow_origins": list(origins),
        "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
        "allow_headers": ["Content-Type", "X-Request-ID"],
        "expose_headers": ["Server-Timing", "X-Request-ID", "Retry-After", "Segserve-Areas"],
    }


class SecurityHeaders:
    """Middleware that adds security headers to every answer whose route has not set them.

    shared: pages of other origins may use the service.
    """

    def __init__(self, app: ASGIApp, shared: bool) -> None:
        self._app = app
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "cross-origin" if shared else "same-origin",
            "Content-Security-Policy": DENY_ALL,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
