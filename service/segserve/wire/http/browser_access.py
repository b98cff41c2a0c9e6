"""Credentials that browsers send in place of a key: the cookie of a login, and links.

A browser sends the cookie by itself, also where another page makes it call us. So it counts only for requests of our
own pages: it is SameSite=Strict, and Sec-Fetch-Site or Origin, which no page can change, must say so (CSRF).
"""

from typing import Literal
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.types import Scope

from segserve.identity.grants import Grants
from segserve.identity.identity import Identity
from segserve.identity.signer import MAX_SIGNED_CHARACTERS
from segserve.wire.http.host_and_origin import OWN_SITES, SAFE_METHODS, header_values, origin_host

# The cookie of a sign-in at an issuer. It is SameSite=Lax: the issuer, another site, leads the browser back.
SIGN_IN_COOKIE = "segserve-sign-in"
# A name with __Host- is refused by browsers unless it was set over TLS, for this host only and for all of its paths: no
# other host of the domain can put its own cookie in the way.
SECURE_PREFIX = "__Host-"
LOGIN_COOKIE = "segserve-login"
LINK_PARAMETER = "link"
MAX_PARAMETERS = 64
READING_METHODS = {"GET", "HEAD"}


def is_encrypted(scope: Scope) -> bool:
    """Return whether the browser speaks TLS: with us, or with a proxy that SEGSERVE_TRUSTED_PROXIES names."""
    return bool(scope.get("scheme") == "https")


def cookie_name(scope: Scope, name: str) -> str:
    return f"{SECURE_PREFIX}{name}" if is_encrypted(scope) else name


def set_login_cookie(response: Response, scope: Scope, login: str, max_age_s: int) -> None:
    set_cookie(response, scope, LOGIN_COOKIE, login, max_age_s, "strict")


def delete_login_cookie(response: Response, scope: Scope) -> None:
    set_cookie(response, scope, LOGIN_COOKIE, "", 0, "strict")


def set_sign_in_cookie(response: Response, scope: Scope, sign_in: str, max_age_s: int) -> None:
    set_cookie(response, scope, SIGN_IN_COOKIE, sign_in, max_age_s, "lax")


def delete_sign_in_cookie(response: Response, scope: Scope) -> None:
    set_cookie(response, scope, SIGN_IN_COOKIE, "", 0, "lax")


def set_cookie(
    response: Response,
    scope: Scope,
    name: str,
    value: str,
    max_age_s: int,
    same_site: Literal["lax", "strict"],
) -> None:
    """Set a cookie that no script can read. max_age_s: 0 lets the browser forget it."""
    response.set_cookie(
        cookie_name(scope, name),
        value,
        max_age=max_age_s,
        expires=0 if max_age_s == 0 else None,
        path="/",
        secure=is_encrypted(scope),
        httponly=True,
        samesite=same_site,
    )


def read_cookie(scope: Scope, name: str) -> str | None:
    """Return the value of one of our cookies, None without one, or where it is empty."""
    beginning = f"{cookie_name(scope, name)}="
    cookies = [cookie.strip() for line in header_values(scope, b"cookie") for cookie in line.split(";")]
    return (
        next((cookie.removeprefix(beginning) for cookie in cookies if cookie.startswith(beginning)), "")
        or None
    )


def read_login_cookie(scope: Scope) -> str | None:
    """Return the login of a request, None without one, or where another page may have caused the request."""
    login = read_cookie(scope, LOGIN_COOKIE)
    return login if login and is_of_own_page(scope) else None


def is_of_own_page(scope: Scope) -> bool:
    """Return whether a page of this service, or the user by hand, has caused a request.

    A browser that sends neither header with a request that changes something is too old to be trusted with a cookie.
    """
    sites = header_values(scope, b"sec-fetch-site")
    if sites:
        return OWN_SITES.issuperset(sites)
    origins = header_values(scope, b"origin")
    if not origins:
        return scope["method"] in SAFE_METHODS
    own_hosts = [host.lower() for host in header_values(scope, b"host")]
    return all(origin_host(origin) in own_hosts for origin in origins)


def read_link(scope: Scope) -> str | None:
    """Return the link of a request, None without one. Links are for reading only."""
    query = scope["query_string"]
    if b"link=" not in query or scope["method"] not in READING_METHODS:
        return None
    try:
        values = parse_qs(query.decode("latin-1"), max_num_fields=MAX_PARAMETERS).get(LINK_PARAMETER, [])
    except ValueError:  # more parameters than any route has
        return None
    return values[0] if len(values) == 1 and len(values[0]) <= MAX_SIGNED_CHARACTERS else None


async def find_browser_identity(scope: Scope, grants: Grants) -> Identity | None:
    """Return who sends a request by a link or a login; None where it has neither.

    Raises Unauthenticated for one that does not count, and Unavailable.
    """
    if (link := read_link(scope)) is not None:
        return await grants.read_link(link, scope["path"])
    if (login := read_login_cookie(scope)) is not None:
        return await grants.read_login(login)
    return None
