"""QuPath as a frontend."""

from typing import Any

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.qupath.routes import PREFIX, add_routes


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return what the extension writes into QuPath's log."""
    return refusal.status, {"detail": refusal.message}


KINDS = {
    f"{PREFIX}/": RequestKind.CLICK,
    f"{PREFIX}/upload/": RequestKind.UPLOAD,
    f"{PREFIX}/video/": RequestKind.WATCH,  # it waits for a job
}


def kind_of(method: str, path: str) -> RequestKind:
    return KINDS.get(path, RequestKind.OTHER) if method == "POST" else RequestKind.OTHER


QUPATH = Frontend(FrontendName.QUPATH, PREFIX, add_routes, write_refusal, kind_of, keeps_sessions=True)
