"""/v1/login: a key becomes the cookie of a page. /v1/links: addresses that are read without a key for a while."""

import time

from fastapi import FastAPI, Request
from fastapi.responses import Response

from segserve.app import Service
from segserve.identity.identity import Identity, current_identity
from segserve.wire.client_address import client_of_scope
from segserve.wire.http.browser_access import delete_login_cookie, set_login_cookie
from segserve.wire.http.request_body import json_body_schema, read_json
from segserve.wire.rest.responses import json_response, problem_responses
from segserve.wire.schemas.login import IdentityOut, LinkIn, LinkOut, LoginIn


def add_routes(api: FastAPI, service: Service) -> None:
    def describe(identity: Identity, expires_at: float | None) -> dict[str, object]:
        return {
            "tenant": identity.tenant,
            "role": identity.role.value,
            "name": identity.name,
            "asks_for_keys": service.grants is not None,
            "expires_at": expires_at,
        }

    @api.get(
        "/v1/login",
        summary="Say who sends the request",
        response_model=IdentityOut,
        responses=problem_responses(401),
        tags=["identity"],
    )
    async def get_identity() -> Response:
        """Whom the service takes the sender for, by its key, its token or its login."""
        identity = current_identity.get()
        return json_response(describe(identity, identity.expires))

    @api.post(
        "/v1/login",
        summary="Log in",
        response_model=IdentityOut,
        responses=problem_responses(400, 401, 415, 422, 503),
        openapi_extra=json_body_schema(LoginIn),
        tags=["identity"],
    )
    async def log_in(request: Request) -> Response:
        """Exchange a key, or a token, for a cookie that scripts cannot read. It is for the service's own page; programs
        send their key with each request."""
        body = await read_json(request, LoginIn)
        if service.authenticators is None or service.grants is None:
            return json_response(describe(current_identity.get(), None))
        client = client_of_scope(request.scope)
        identity = await service.authenticators.authenticate(body.key, client)
        current_identity.set(identity)  # the audit log says who logged in
        login, expires = await service.grants.create_login(identity, service.settings.login_max_s)
        response = json_response(describe(identity, expires))
        set_login_cookie(response, request.scope, login, max(1, int(expires - time.time())))
        return response

    @api.delete(
        "/v1/login",
        status_code=204,
        summary="Log out",
        responses={204: {"description": "The browser forgets the login."}},
        tags=["identity"],
    )
    async def log_out(request: Request) -> Response:
        """Let the browser forget the login."""
        response = Response(status_code=204)
        delete_login_cookie(response, request.scope)
        return response

    @api.post(
        "/v1/links",
        summary="Make a link",
        response_model=LinkOut,
        responses=problem_responses(400, 401, 403, 415, 422, 503),
        openapi_extra=json_body_schema(LinkIn),
        tags=["identity"],
    )
    async def create_link(request: Request) -> Response:
        """Let an address be read without a key for a while: where a browser cannot send one, as for an <img>, an
        EventSource or a download. A link reads one image, file or job, or a part of it, and ends with its key."""
        body = await read_json(request, LinkIn)
        if service.grants is None:
            return json_response({"link": None, "expires_at": time.time() + body.expires_s})
        link, expires = await service.grants.create_link(current_identity.get(), body.path, body.expires_s)
        return json_response({"link": link, "expires_at": expires})
