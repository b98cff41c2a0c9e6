"""MONAI Label as a frontend."""

from typing import Any

from segserve.request_limits import RequestKind
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.monai.models import SUFFIXES, TaskKind
from segserve.wire.frontends.monai.routes import PREFIX, add_routes

INFER = f"{PREFIX}/infer/"
# Bodies of these are files: a volume may come with every request.
UPLOADS = (INFER, f"{PREFIX}/session", f"{PREFIX}/datastore")


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return what clients show: an error of FastAPI, as MONAI Label's own are."""
    return refusal.status, {"detail": refusal.message}


def kind_of(method: str, path: str) -> RequestKind:
    """Return the slots of a request: an inference on one slice is a click, any other waits for a job."""
    if path.startswith(INFER):
        return RequestKind.CLICK if path.endswith(SUFFIXES[TaskKind.CLICK_2D]) else RequestKind.WATCH
    return RequestKind.UPLOAD if method == "PUT" and path.startswith(UPLOADS) else RequestKind.OTHER


MONAI = Frontend(FrontendName.MONAI, PREFIX, add_routes, write_refusal, kind_of, UPLOADS, keeps_sessions=True)
