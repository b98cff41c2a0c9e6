"""Label Studio as a frontend."""

from typing import Any

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.label_studio.routes import PREFIX, add_routes


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return what Label Studio's own backends answer. It shows the status, and logs the text."""
    return refusal.status, {"error": refusal.message, "code": refusal.code, "field": refusal.field}


def kind_of(method: str, path: str) -> RequestKind:
    """Return whose slots a request takes. Clicks and whole images come by the same path."""
    return RequestKind.CLICK if method == "POST" and path.endswith("/predict") else RequestKind.OTHER


LABEL_STUDIO = Frontend(
    FrontendName.LABEL_STUDIO, PREFIX, add_routes, write_refusal, kind_of, keeps_sessions=True
)
