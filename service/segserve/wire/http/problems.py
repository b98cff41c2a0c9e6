"""The error tree as RFC 9457 problem documents, in one place."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from segserve.errors import (
    BadInput,
    BrokenModel,
    MissingDependency,
    NotAllowed,
    NotFound,
    SegserveError,
    StorageFull,
    TooLarge,
    TooSlow,
    Unavailable,
    UnsupportedFormat,
)

MEDIA_TYPE = "application/problem+json"
# The first class that an error is an instance of decides: subclasses stand before their parents.
STATUS: list[tuple[type[SegserveError], int]] = [
    (TooLarge, 413),
    (UnsupportedFormat, 415),
    (BadInput, 422),
    (NotFound, 404),
    (NotAllowed, 403),
    (TooSlow, 408),
    (StorageFull, 507),
    (Unavailable, 503),
    (BrokenModel, 409),
    (MissingDependency, 501),
]
LISTED = 10  # faults of a request
REMEDIES = {
    400: "Check that the body is complete and of its stated type.",
    404: "See /docs for the routes.",
    405: "See /docs for the methods of each route.",
}

log = structlog.get_logger(__name__)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    remedy: str = "",
    field: str | None = None,
    errors: list[dict[str, str]] | None = None,
    retry_after_s: int | None = None,
) -> Response:
    """A problem document; `type` is stable, `field` and `remedy` say where and what to do."""
    body: dict[str, Any] = {
        "type": f"urn:segserve:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    extras = {"field": field, "remedy": remedy, "errors": errors}
    body.update({key: value for key, value in extras.items() if value})
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return Response(orjson.dumps(body), status, headers, media_type=MEDIA_TYPE)


class InvalidRequest(BadInput):
    """What pydantic found at fault. `faults`: the first of them, field and message each.

    found: its errors, the field's path without anything around the request itself. reference: where it is
    written what each field takes.
    """

    def __init__(self, found: Sequence[Mapping[str, Any]], reference: str) -> None:
        self.faults = [
            {
                "field": ".".join(str(part) for part in fault["loc"]),
                "message": fault["msg"].removeprefix("Value error, "),
            }
            for fault in found[:LISTED]
        ]
        first = self.faults[0]
        super().__init__(
            f"{first['field'] or 'The request'}: {first['message']}.",
            remedy=f"See {reference} for what each field takes.",
            field=first["field"],
        )


def from_error(error: SegserveError) -> Response:
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    retry = error.retry_after_s if isinstance(error, Unavailable) else None
    return problem(
        status,
        error.code,
        error.message,
        remedy=error.remedy,
        field=error.field,
        errors=error.faults if isinstance(error, InvalidRequest) else None,
        retry_after_s=retry,
    )


def from_validation(error: RequestValidationError) -> Response:
    """Broken JSON is 400; JSON of the wrong shape is 422 and lists the first fields at fault."""
    found = error.errors()
    if any(e["type"] == "json_invalid" for e in found):
        reason = found[0].get("ctx", {}).get("error", "")
        return problem(
            400, "broken_json", f"The body is not JSON: {reason}.", remedy="Send a JSON object, as in /docs."
        )
    inside = [{**fault, "loc": fault["loc"][1:]} for fault in found]  # without "body" or "query"
    return from_error(InvalidRequest(inside, "/docs"))


def methods(api: FastAPI, request: Request) -> set[str]:
    """All that a path takes, whichever routes share it."""
    at = [route for route in api.routes if route.matches(request.scope)[0] is not Match.NONE]
    found = {method for route in at for method in getattr(route, "methods", None) or ()}
    return found | {"HEAD"} if "GET" in found else found


def install(api: FastAPI) -> None:
    """Every error that leaves a route becomes a problem document."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, SegserveError)
        log.info("refused", code=error.code, field=error.field, reason=error.message)
        return from_error(error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return from_validation(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).name.lower()
        answer = problem(
            error.status_code, code, str(error.detail), remedy=REMEDIES.get(error.status_code, "")
        )
        answer.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # the framework names one route's methods only
            answer.headers["allow"] = ", ".join(sorted(methods(api, request)))
        return answer

    api.add_exception_handler(SegserveError, known)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, http)
