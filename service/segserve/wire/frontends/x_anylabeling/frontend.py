"""X-AnyLabeling as a frontend."""

from http import HTTPStatus
from typing import Any

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.x_anylabeling.routes import PREFIX, add_routes

PREDICT_PATH = f"{PREFIX}/v1/predict"
KINDS = {
    PREDICT_PATH: RequestKind.CLICK,
    f"{PREFIX}/v1/video/init": RequestKind.UPLOAD,
    f"{PREFIX}/v1/video/prompt": RequestKind.CLICK,
    f"{PREFIX}/v1/video/propagate/stream": RequestKind.WATCH,
}


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return 200 for a prediction: after any other status, and after an answer without `replace`, the client deletes
    all labels of the image."""
    content = {"success": False, "error": {"code": refusal.code.upper(), "message": refusal.message}}
    if refusal.path == PREDICT_PATH:
        return HTTPStatus.OK, {**content, "data": {"shapes": [], "description": "", "replace": False}}
    return refusal.status, content


def kind_of(method: str, path: str) -> RequestKind:
    return KINDS.get(path, RequestKind.OTHER)


X_ANYLABELING = Frontend(
    FrontendName.X_ANYLABELING, PREFIX, add_routes, write_refusal, kind_of, keeps_sessions=True
)
