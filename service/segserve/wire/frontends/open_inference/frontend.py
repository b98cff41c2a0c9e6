"""The Open Inference Protocol as a frontend."""

from typing import Any

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.open_inference.routes import add_routes


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    return refusal.status, {"error": refusal.message}


def kind_of(method: str, path: str) -> RequestKind:
    """Return OTHER: whether a request is a click is in its tensors."""
    return RequestKind.OTHER


OPEN_INFERENCE = Frontend(FrontendName.OPEN_INFERENCE, "/v2", add_routes, write_refusal, kind_of)
