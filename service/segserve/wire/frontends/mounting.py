"""All frontends, and how those of the setting `frontends` become part of the API."""

from collections.abc import Callable, Sequence

from fastapi import FastAPI

from segserve.app import Service
from segserve.errors import BadInput
from segserve.request_limits import RequestKind
from segserve.settings import Settings
from segserve.wire.frontends.cvat.frontend import CVAT
from segserve.wire.frontends.frontend import Frontend, FrontendParts
from segserve.wire.frontends.isat.frontend import ISAT
from segserve.wire.frontends.label_studio.frontend import LABEL_STUDIO
from segserve.wire.frontends.monai.frontend import MONAI
from segserve.wire.frontends.nninteractive.frontend import NNINTERACTIVE
from segserve.wire.frontends.open_inference.frontend import OPEN_INFERENCE
from segserve.wire.frontends.qupath.frontend import QUPATH
from segserve.wire.frontends.sent_images import SentImages
from segserve.wire.frontends.x_anylabeling.frontend import X_ANYLABELING

FRONTENDS = (OPEN_INFERENCE, X_ANYLABELING, QUPATH, MONAI, LABEL_STUDIO, CVAT, ISAT, NNINTERACTIVE)


def list_enabled(settings: Settings) -> list[Frontend]:
    """Return the frontends that the setting names."""
    return [frontend for frontend in FRONTENDS if frontend.name in settings.frontends]


def list_own_ports(settings: Settings) -> list[tuple[Frontend, int]]:
    """Return the frontends that have a port of their own, with it. Raises BadInput for one that is not enabled."""
    ports = [(frontend, port) for frontend in FRONTENDS if (port := frontend.own_port(settings)) is not None]
    for frontend, _ in ports:
        if frontend.name not in settings.frontends:
            raise BadInput(
                f"{frontend.name} has a port, and is not among the frontends.",
                field="frontends",
                remedy=f"Add {frontend.name!r} to SEGSERVE_FRONTENDS, or leave its port out.",
            )
    return ports


def add_frontend_routes(api: FastAPI, service: Service, frontends: Sequence[Frontend]) -> None:
    """Add the routes of the frontends to the API."""
    parts = FrontendParts(service, SentImages(service))
    for frontend in frontends:
        frontend.add_routes(api, parts)


def find_frontend(frontends: Sequence[Frontend], path: str) -> Frontend | None:
    """Return the frontend that a path belongs to."""
    return next((frontend for frontend in frontends if frontend.has(path)), None)


def with_frontends(
    kind_of: Callable[[str, str], RequestKind | None], frontends: Sequence[Frontend]
) -> Callable[[str, str], RequestKind | None]:
    """Return a function that knows the kinds of the frontends' requests too. kind_of: knows those of the API."""

    def find_kind(method: str, path: str) -> RequestKind | None:
        frontend = find_frontend(frontends, path)
        return kind_of(method, path) if frontend is None else frontend.kind_of(method, path)

    return find_kind
