"""CVAT as a frontend."""

from typing import Any

from segserve.request_limits import RequestKind
from segserve.settings import Settings
from segserve.types import FrontendName
from segserve.wire.frontends.cvat.routes import DIRECT_PATH, INVOKE_PATH, PREFIX, add_routes
from segserve.wire.frontends.frontend import Frontend, Refusal


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return the form of Nuclio's dashboard. CVAT passes the status on."""
    return refusal.status, {"error": refusal.message}


def kind_of(method: str, path: str) -> RequestKind:
    return RequestKind.CLICK if path in (INVOKE_PATH, DIRECT_PATH) else RequestKind.OTHER


def own_port(settings: Settings) -> int | None:
    return settings.cvat_port


CVAT = Frontend(FrontendName.CVAT, PREFIX, add_routes, write_refusal, kind_of, own_port=own_port)
