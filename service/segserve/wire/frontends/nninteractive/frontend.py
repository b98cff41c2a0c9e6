"""nnInteractive as a frontend."""

from http import HTTPStatus
from typing import Any

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.nninteractive.routes import (
    FILE_ROUTES,
    PREDICTING_ROUTES,
    PREFIX,
    add_routes,
)
from segserve.wire.frontends.sessions import SessionNotFound


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return 410 for a lease that is none: the client offers to connect again."""
    is_lost = refusal.code == SessionNotFound.code
    return HTTPStatus.GONE if is_lost else refusal.status, {"detail": refusal.message}


def kind_of(method: str, path: str) -> RequestKind:
    """Return WATCH for what waits for a job."""
    route = path.rpartition("/")[2]
    if method != "POST":
        return RequestKind.OTHER
    if route in PREDICTING_ROUTES:
        return RequestKind.WATCH
    return RequestKind.UPLOAD if route in FILE_ROUTES else RequestKind.OTHER


NNINTERACTIVE = Frontend(
    FrontendName.NNINTERACTIVE,
    PREFIX,
    add_routes,
    write_refusal,
    kind_of,
    upload_prefixes=(f"{PREFIX}/models/", *(f"{PREFIX}/{route}" for route in FILE_ROUTES)),
    keeps_sessions=True,
)
