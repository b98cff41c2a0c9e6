"""/v1/login/issuers: people sign in at an issuer of OpenID Connect, and come back with the cookie of a login."""

import time
from typing import Annotated
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Path, Request
from fastapi.responses import RedirectResponse, Response

from segserve.app import Service
from segserve.errors import NotFound
from segserve.identity.identity import current_identity
from segserve.identity.sign_in import MAX_ATTEMPT_S, SignInFailed, SignInProblem, SignIns
from segserve.wire.client_address import client_of_scope
from segserve.wire.http.browser_access import (
    SIGN_IN_COOKIE,
    delete_sign_in_cookie,
    read_cookie,
    set_login_cookie,
    set_sign_in_cookie,
)
from segserve.wire.http.host_and_origin import header_values
from segserve.wire.rest.responses import json_response, problem_responses
from segserve.wire.schemas.login import SignInIssuersOut, SignInOut

ISSUERS = "/v1/login/issuers"
PAGE = "/"
NO_STORE = {"Cache-Control": "no-store"}

IssuerName = Annotated[
    str, Path(description="as GET /v1/login/issuers names it", max_length=64, examples=["Keycloak"])
]

log = structlog.get_logger(__name__)


def add_routes(api: FastAPI, service: Service) -> None:
    @api.get(
        ISSUERS,
        summary="List where people sign in",
        response_model=SignInIssuersOut,
        responses=problem_responses(),
        tags=["identity"],
    )
    async def list_sign_in_issuers() -> Response:
        """The issuers of OpenID Connect whose login the page offers; none where the operator has set none."""
        names = [] if service.sign_ins is None else service.sign_ins.names
        return json_response({"issuers": [{"name": name} for name in names]})

    @api.post(
        f"{ISSUERS}/{{issuer}}",
        summary="Begin to sign in at an issuer",
        response_model=SignInOut,
        responses=problem_responses(404, 422, 503),
        tags=["identity"],
    )
    async def begin_sign_in(issuer: IssuerName, request: Request) -> Response:
        """Return the address of the issuer's login, to which the page sends the browser, and set the cookie that it
        comes back with. Ten minutes later it counts no more."""
        url, cookie = await find_sign_ins(service).begin(issuer, redirect_uri(request, issuer))
        response = json_response({"url": url})
        response.headers.update(NO_STORE)
        set_sign_in_cookie(response, request.scope, cookie, MAX_ATTEMPT_S)
        return response

    @api.get(f"{ISSUERS}/{{issuer}}/callback", include_in_schema=False)
    async def finish_sign_in(issuer: IssuerName, request: Request) -> Response:
        """Where an issuer sends the browser back to. It goes on to the page, which says what went wrong if anything
        did."""
        sign_ins = find_sign_ins(service)
        assert service.authenticators is not None
        assert service.grants is not None
        client = client_of_scope(request.scope)
        await service.authenticators.check_client(client)
        parameters = request.query_params
        try:
            if len(parameters.multi_items()) > len(parameters):
                # Not REFUSED, which counts against the address: any page can send its visitors here.
                raise SignInFailed(SignInProblem.ENDED, "The answer says something twice.")
            cookie = read_cookie(request.scope, SIGN_IN_COOKIE)
            identity = await sign_ins.finish(issuer, redirect_uri(request, issuer), parameters, cookie)
        except SignInFailed as failure:
            log.warning(
                "nobody was signed in", issuer=issuer, problem=failure.problem, reason=failure.message
            )
            if failure.problem is SignInProblem.REFUSED:
                await service.authenticators.count_failure(client)
            response = RedirectResponse(f"{PAGE}#sign-in={failure.problem}", 303, NO_STORE)
            if failure.problem is not SignInProblem.ENDED:  # an attempt in another tab may still come back
                delete_sign_in_cookie(response, request.scope)
            return response
        current_identity.set(identity)  # the audit log says who signed in
        login, expires = await service.grants.create_login(identity, service.settings.login_max_s)
        response = RedirectResponse(PAGE, 303, NO_STORE)
        set_login_cookie(response, request.scope, login, max(1, int(expires - time.time())))
        delete_sign_in_cookie(response, request.scope)
        return response


def find_sign_ins(service: Service) -> SignIns:
    """Raises NotFound where nobody can sign in at an issuer."""
    if service.sign_ins is None:
        raise NotFound(
            "Nobody can sign in at an issuer here.", remedy="Log in with a key, or a token: POST /v1/login."
        )
    return service.sign_ins


def redirect_uri(request: Request, issuer: str) -> str:
    """Return the address that an issuer sends browsers back to, at the host by which this one calls us.

    The issuer knows the addresses that it may send codes to, and refuses all others.
    """
    [host] = header_values(request.scope, b"host")
    return f"{request.url.scheme}://{host}{ISSUERS}/{quote(issuer, safe='')}/callback"
