"""Who sends a request, and whether it may: keys and tokens in headers, and the right that a route needs.

`Authentication` stands before every limit: whoever is not known takes no slot, and his body is not read. It sets the
context variable `current_identity`. `guard_routes` puts the check of the right around each route.
"""

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping

from fastapi import FastAPI
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from segserve.errors import MissingRight, RateLimited, SegserveError, Unauthenticated
from segserve.identity.authenticator import Authenticators
from segserve.identity.grants import Grants
from segserve.identity.identity import ANONYMOUS, Identity, current_identity
from segserve.identity.rights import Right, list_names
from segserve.metrics import Metrics
from segserve.wire.client_address import client_of_scope
from segserve.wire.http.browser_access import find_browser_identity
from segserve.wire.http.problems import error_to_response
from segserve.wire.route_rights import OPEN, ROUTE_RIGHTS

# Headers that hold nothing but a key: of tools in general, and of X-AnyLabeling.
KEY_HEADERS = (b"x-api-key", b"token")
AUTHORIZATION = b"authorization"
# `Token` is what Label Studio and Django say.
PLAIN_SCHEMES = ("bearer", "token")


def read_authorization(header: str) -> str:
    """Return the credential of a header Authorization: of the schemes Bearer, Token and Basic, whose password it is.

    Raises Unauthenticated for another scheme.
    """
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() in PLAIN_SCHEMES and value:
        return value
    if scheme.lower() == "basic":
        try:
            user, _, password = b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            pass
        else:
            return password or user  # some tools have a field for one of them only
    raise Unauthenticated(
        "The header Authorization cannot be read.", remedy="Send 'Authorization: Bearer KEY'."
    )


def read_credential(headers: Mapping[bytes, str]) -> str | None:
    """Return the credential of a request: a key or a token; None where there is none.

    headers: by their names in lower case.

    Raises Unauthenticated.
    """
    if (authorization := headers.get(AUTHORIZATION)) is not None:
        return read_authorization(authorization)
    return next((headers[name].strip() for name in KEY_HEADERS if name in headers), None)


class Authentication:
    """Middleware that finds out who sends a request, and refuses those that nobody is known to have sent.

    Paths that are open to everybody are not asked for: see `route_rights`. grants: read logins and links of browsers,
    where there are any.
    """

    def __init__(
        self, app: ASGIApp, authenticators: Authenticators, metrics: Metrics, grants: Grants | None = None
    ) -> None:
        self._app, self._authenticators, self._metrics = app, authenticators, metrics
        self._grants = grants
        self._open_paths = {
            method: compile_paths(
                path for (of, path), right in ROUTE_RIGHTS.items() if right == OPEN and of == method
            )
            for method in ("GET", "POST", "DELETE")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            identity = await self._find_identity(scope)
        except SegserveError as error:
            self._metrics.requests.count_rejection(rejection_reason(error))
            await error_to_response(error)(scope, receive, send)
            return
        current_identity.set(identity)
        await self._app(scope, receive, send)

    async def _find_identity(self, scope: Scope) -> Identity:
        open_paths = self._open_paths.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if open_paths is not None and open_paths.fullmatch(scope["path"]):
            return ANONYMOUS
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        credential = read_credential(headers)
        if credential is None and self._grants is not None:
            identity = await find_browser_identity(scope, self._grants)
            if identity is not None:
                return identity
        return await self._authenticators.authenticate(credential, client_of_scope(scope))


def compile_paths(templates: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches the paths of all templates."""
    # The names of the groups would stand in it several times.
    patterns = (re.sub(r"\?P<\w+>", "?:", compile_path(path)[0].pattern) for path in templates)
    return re.compile("|".join(patterns))


def rejection_reason(error: SegserveError) -> str:
    """Return the label of the metric of rejections."""
    return "rate_wrong_keys" if isinstance(error, RateLimited) else "unauthenticated"


class RightCheck:
    """ASGI application around one route: it refuses who may not use it. right: that the route needs."""

    def __init__(self, app: ASGIApp, right: Right) -> None:
        self._app, self._right = app, right

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        check_right(current_identity.get(), self._right)
        await self._app(scope, receive, send)


def check_right(identity: Identity, right: Right) -> None:
    """Raise MissingRight where an identity lacks a right, or one of several."""
    missing = right & ~identity.rights
    if missing:
        raise MissingRight(
            f"This needs the right to {' and to '.join(list_names(missing))}, which this key has not.",
            remedy="Use a key of another role, or with more scopes.",
        )


def guard_routes(api: FastAPI) -> None:
    """Put the check of the right around every route of an application. Call it when all are added.

    Raises LookupError for a route that has no row in `route_rights`.
    """
    for route in api.routes:
        if not isinstance(route, Route):
            raise LookupError(f"{route} is no route with a row in route_rights.py")
        rights = {find_right(method, route.path) for method in (route.methods or ()) if method != "HEAD"}
        if len(rights) != 1:
            raise LookupError(f"{route.path} needs one right for all of its methods")
        route.app = RightCheck(route.app, rights.pop())


def find_right(method: str, path: str) -> Right:
    """Return the right that a route needs. Raises LookupError."""
    try:
        return ROUTE_RIGHTS[method, path]
    except KeyError:
        raise LookupError(f"{method} {path} has no row in route_rights.py") from None
