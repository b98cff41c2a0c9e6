"""Credentials that browsers send in place of a key: the cookie of a login, and links.

A browser sends the cookie by itself, also where another page makes it call us. So it counts only for requests of our
own pages: it is SameSite=Strict, and Sec-Fetch-Site or Origin, which no page can change, must say so (CSRF).
"""

from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.types import Scope

from segserve.identity.grants import MAX_GRANT_CHARACTERS, Grants
from segserve.identity.identity import Identity
from segserve.wire.http.host_and_origin import OWN_SITES, SAFE_METHODS, header_values, origin_host

# A name with __Host- is refused by browsers unless it was set over TLS, for this host only and for all of its paths: no
# other host of the domain can put its own cookie in the way.
SECURE_COOKIE = "__Host-segserve-login"
PLAIN_COOKIE = "segserve-login"
LINK_PARAMETER = "link"
MAX_PARAMETERS = 64
READING_METHODS = {"GET", "HEAD"}


def is_encrypted(scope: Scope) -> bool:
    """Return whether the browser speaks TLS: with us, or with a proxy that SEGSERVE_TRUSTED_PROXIES names."""
    return bool(scope.get("scheme") == "https")


def cookie_name(scope: Scope) -> str:
    return SECURE_COOKIE if is_encrypted(scope) else PLAIN_COOKIE


def set_login_cookie(response: Response, scope: Scope, login: str, max_age_s: int) -> None:
    response.set_cookie(
        cookie_name(scope),
        login,
        max_age=max_age_s,
        path="/",
        secure=is_encrypted(scope),
        httponly=True,
        samesite="strict",
    )


def delete_login_cookie(response: Response, scope: Scope) -> None:
    response.delete_cookie(
        cookie_name(scope), path="/", secure=is_encrypted(scope), httponly=True, samesite="strict"
    )


def read_login_cookie(scope: Scope) -> str | None:
    """Return the login of a request, None without one, or where another page may have caused the request."""
    name = cookie_name(scope)
    cookies = [cookie.strip() for line in header_values(scope, b"cookie") for cookie in line.split(";")]
    login = next((cookie[len(name) + 1 :] for cookie in cookies if cookie.startswith(f"{name}=")), None)
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
    return values[0] if len(values) == 1 and len(values[0]) <= MAX_GRANT_CHARACTERS else None


async def find_browser_identity(scope: Scope, grants: Grants) -> Identity | None:
    """Return who sends a request by a link or a login; None where it has neither.

    Raises Unauthenticated for one that does not count, and Unavailable.
    """
    if (link := read_link(scope)) is not None:
        return await grants.read_link(link, scope["path"])
    if (login := read_login_cookie(scope)) is not None:
        return await grants.read_login(login)
    return None
