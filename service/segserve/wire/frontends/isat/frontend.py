"""ISAT as a frontend."""

from typing import Any

from segserve.request_limits import RequestKind
from segserve.settings import Settings
from segserve.types import FrontendName
from segserve.wire.frontends.frontend import Frontend, Refusal
from segserve.wire.frontends.isat.routes import ENCODE_PATH, PREFIX, add_routes


def write_refusal(refusal: Refusal) -> tuple[int, Any]:
    """Return the form of ISAT's own server. ISAT shows the status alone."""
    return refusal.status, {"detail": refusal.message}


def kind_of(method: str, path: str) -> RequestKind:
    return RequestKind.UPLOAD if path == ENCODE_PATH else RequestKind.OTHER


def own_port(settings: Settings) -> int | None:
    return settings.isat_port


ISAT = Frontend(
    FrontendName.ISAT,
    PREFIX,
    add_routes,
    write_refusal,
    kind_of,
    upload_prefixes=(ENCODE_PATH,),
    own_port=own_port,
)
