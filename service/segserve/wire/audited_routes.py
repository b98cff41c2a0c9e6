"""Which requests are in the audit log, and as what.

What stores, changes or deletes data is there, and what reads bytes or results. Clicks and whole images are not: there
are many, and they name an image whose upload is there. Neither are lists, states and what describes the service.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from segserve.identity.identity import ANONYMOUS, Identity
from segserve.identity.rights import Right
from segserve.wire.route_rights import METHOD_RIGHTS, OPEN, ROUTE_RIGHTS

READ = "read"
AUTHENTICATE = "authenticate"
# What changes something needs one of these.
CHANGING = Right.UPLOAD | Right.JOBS | Right.DELETE | Right.OPERATE
# Routes with GET that answer bytes or results.
READING = frozenset(
    (
        "/v1/images/{image_id}/preview",
        "/v1/images/{image_id}/embedding",
        "/v1/images/{image_id}/tiles/{level}/{x}/{y}",
        "/v1/files/{file_id}/frames/{frame}",
        "/v1/files/{file_id}/url",
        "/v1/jobs/{job_id}/results",
        "/monai/datastore/image",
        "/monai/datastore/label",
    )
)
READING_METHODS = frozenset(
    ("/segserve.v1.SegmentationService/GetEmbedding", "/segserve.v1.JobService/ReadResults")
)
# Actions that neither the method nor the right of a route says. None: not audited.
ACTIONS: dict[tuple[str, str], str | None] = {
    ("POST", "/v1/links"): "link",
    ("POST", "/v1/login/issuers/{issuer}"): None,  # who it is, the callback says
    ("GET", "/v1/login/issuers/{issuer}/callback"): AUTHENTICATE,
    ("POST", "/v1/jobs/{job_id}/retry"): "retry",
    ("POST", "/v1/jobs/{job_id}/prompts"): "change",
}
METHOD_ACTIONS = {
    "UploadImage": "create",
    "UploadFile": "create",
    "ReadLabels": "create",  # as its route
    "SubmitJob": "create",
    "DeleteImage": "delete",
    "DeleteFile": "delete",
    "CancelJob": "cancel",
    "DeleteJob": "delete",
    "AddPrompts": "change",
    "RetryJob": "retry",
    "ModelInfer": "create",
    "ModelStreamInfer": "create",
}
# Parts of requests and answers that say which data is meant.
IDS = ("image_id", "file_id", "job_id", "session_id", "tenant", "name", "image", "label")
MAX_ID_CHARS = 200
# Statuses of refused credentials.
UNAUTHENTICATED = ("401", "UNAUTHENTICATED")


@cache
def find_action(method: str, path: str) -> str | None:
    """Return what a request to a route of REST does; None for what is not audited. path: of the route."""
    right = ROUTE_RIGHTS.get((method, path))
    if right is None:
        return None
    if (method, path) in ACTIONS:
        return ACTIONS[method, path]
    if method == "GET":
        return READ if path.removesuffix("/") in READING else None
    if right == OPEN:  # a login
        return AUTHENTICATE
    if not right & CHANGING:
        return None
    return "delete" if method == "DELETE" else "create"


@cache
def find_call_action(method: str) -> str | None:
    """Return what a call of gRPC does; None for what is not audited."""
    if method in READING_METHODS:
        return READ
    if not METHOD_RIGHTS.get(method, OPEN) & CHANGING:
        return None
    return METHOD_ACTIONS[method.rpartition("/")[2]]


def pick_ids(parts: Mapping[str, Any] | Any) -> dict[str, str]:
    """Return the ids in the path, query or body of a request or answer, or in a message of gRPC."""
    get = parts.get if isinstance(parts, Mapping) else lambda name: getattr(parts, name, None)
    found = ((name, get(name)) for name in IDS)
    return {name: value[:MAX_ID_CHARS] for name, value in found if isinstance(value, str) and value}


def describe_sender(identity: Identity, address: str | None, status: str) -> dict[str, str | None]:
    """Return who sent a request. Of refused credentials nobody knows."""
    if status in UNAUTHENTICATED:
        identity = ANONYMOUS
    is_known = identity is not ANONYMOUS
    return {
        "name": identity.name,
        "tenant": identity.tenant if is_known else None,
        "role": identity.role.value if is_known else None,
        "address": address,
    }
