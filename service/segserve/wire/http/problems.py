"""The error tree as problem documents (RFC 9457)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from segserve.errors import (
    BadInput,
    BrokenModel,
    MissingDependency,
    NotAllowed,
    NotFound,
    RateLimited,
    SegserveError,
    StorageFull,
    TooLarge,
    TooSlow,
    Unauthenticated,
    Unavailable,
    UnsupportedFormat,
    describe_invalid,
    shorten,
)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:segserve:problem:"
# The first row whose class fits decides: subclasses stand before their parents.
STATUSES: list[tuple[type[SegserveError], int]] = [
    (TooLarge, 413),
    (UnsupportedFormat, 415),
    (BadInput, 422),
    (NotFound, 404),
    (Unauthenticated, 401),
    (NotAllowed, 403),
    (TooSlow, 408),
    (StorageFull, 507),
    (RateLimited, 429),
    (Unavailable, 503),
    (BrokenModel, 409),
    (MissingDependency, 501),
]
LAST_RESORT = 500
# Not Basic, which is accepted too: browsers would ask for a password where a page fetches something.
CHALLENGE = 'Bearer realm="segserve"'
MAX_LISTED_FAULTS = 10  # of a request
# Pydantic lists all faults of a request or none, at 4 us each.
MAX_KNOWN_FAULTS = 1000
# A field or a message may repeat a key of the request, of any length.
MAX_FAULT_CHARACTERS = 200
REMEDIES = {  # for errors of the framework, by status
    400: "Check that the body is complete and of its stated type.",
    404: "See /docs for the routes.",
    405: "See /docs for the methods of each route.",
}

log = structlog.get_logger(__name__)


def problem_response(
    status: int,
    code: str,
    detail: str,
    *,
    remedy: str = "",
    field: str | None = None,
    errors: list[dict[str, str]] | None = None,
    retry_after_s: int | None = None,
) -> Response:
    """A response with a problem document.

    code: stable name of the problem; its `type` is made of it.
    field, remedy: where the fault is, and what to do about it.
    errors: all fields at fault, if there are several.
    """
    body: dict[str, Any] = {
        "type": f"{TYPE_PREFIX}{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    extras = {"field": field, "remedy": remedy, "errors": errors}
    body.update({key: value for key, value in extras.items() if value})
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response(orjson.dumps(body), int(status), headers, media_type=MEDIA_TYPE)


def read_code(body: bytes) -> str:
    """The code of a problem document, as `problem_response` wrote it; empty if there is none."""
    try:
        return str(orjson.loads(body)["type"]).removeprefix(TYPE_PREFIX)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def list_faults(error: ValidationError) -> list[Any]:
    """The faults of a request, as pydantic lists them; one fault that counts them, if there are too many to list."""
    count = error.error_count()
    if count > MAX_KNOWN_FAULTS:
        return [{"type": "too_many_faults", "loc": (), "msg": f"It has {count} faults, too many to list"}]
    return list(error.errors(include_url=False, include_input=False))


class InvalidRequest(BadInput):
    """A request that does not fit its schema.

    faults: the first ones, with `field` and `message` each.
    """

    def __init__(self, errors: Sequence[Mapping[str, Any]], reference: str) -> None:
        """errors: of pydantic, whose `loc` is the path of the field inside the request. reference: where the fields
        are documented."""
        self.faults = [
            {
                "field": shorten(".".join(str(part) for part in error["loc"]), MAX_FAULT_CHARACTERS),
                "message": shorten(describe_invalid(error), MAX_FAULT_CHARACTERS),
            }
            for error in errors[:MAX_LISTED_FAULTS]
        ]
        first = self.faults[0]
        super().__init__(
            f"{first['field'] or 'The request'}: {first['message']}.",
            remedy=f"See {reference} for what each field takes.",
            field=first["field"],
        )


def error_to_response(error: SegserveError) -> Response:
    """The problem document of an error; its status follows from the error's class."""
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), LAST_RESORT)
    shown = error.for_clients() if isinstance(error, MissingDependency) else error
    response = problem_response(
        status,
        error.code,
        shown.message,
        remedy=shown.remedy,
        field=error.field,
        errors=error.faults if isinstance(error, InvalidRequest) else None,
        retry_after_s=error.retry_after_s if isinstance(error, Unavailable) else None,
    )
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response


def validation_to_response(error: RequestValidationError) -> Response:
    """The problem document of a body or query that does not fit: 400 for broken JSON, 422 for the wrong fields."""
    errors = error.errors()
    if any(e["type"] == "json_invalid" for e in errors):
        reason = errors[0].get("ctx", {}).get("error", "")
        return problem_response(
            400, "broken_json", f"The body is not JSON: {reason}.", remedy="Send a JSON object, as in /docs."
        )
    inner = [{**e, "loc": e["loc"][1:]} for e in errors]  # without "body" or "query" in front
    return error_to_response(InvalidRequest(inner, "/docs"))


def allowed_methods(api: FastAPI, request: Request) -> set[str]:
    """All methods of a path, which several routes may share."""
    matching = [route for route in api.routes if route.matches(request.scope)[0] is not Match.NONE]
    methods = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return methods | {"HEAD"} if "GET" in methods else methods


def install_error_handlers(api: FastAPI) -> None:
    """Turn every error that leaves a route into a problem document."""

    async def handle_known(request: Request, error: Exception) -> Response:
        assert isinstance(error, SegserveError)
        # No room left is for the operator to mend.
        tell = log.warning if isinstance(error, StorageFull) else log.info
        tell("refused", code=error.code, field=error.field, reason=error.message)
        return error_to_response(error)

    async def handle_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return validation_to_response(error)

    async def handle_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = error.status_code
        code = HTTPStatus(status).name.lower()
        response = problem_response(status, code, str(error.detail), remedy=REMEDIES.get(status, ""))
        response.headers.update(error.headers or {})
        if status == HTTPStatus.METHOD_NOT_ALLOWED:  # the framework names the methods of one route only
            response.headers["allow"] = ", ".join(sorted(allowed_methods(api, request)))
        return response

    api.add_exception_handler(SegserveError, handle_known)
    api.add_exception_handler(RequestValidationError, handle_invalid)
    api.add_exception_handler(HTTPException, handle_http)
