"""QuPath as a frontend."""

from typing import Any

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.qupath.routes import PREFIX, add_routes

CLICK_PATH = f"{PREFIX}/"


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return what the extension writes into QuPath's log."""
    return refusal.status, {"detail": refusal.message}


def kind_of(method: str, path: str) -> RequestKind:
    return RequestKind.CLICK if method == "POST" and path == CLICK_PATH else RequestKind.OTHER


QUPATH = Frontend(FrontendName.QUPATH, PREFIX, add_routes, write_refusal, kind_of)
