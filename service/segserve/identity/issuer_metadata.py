"""The discovery document of an issuer of OpenID Connect: where its keys are, and where people sign in."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from segserve.identity.oidc_issuer import OidcIssuer, is_trusted_transport

DISCOVERY_PATH = "/.well-known/openid-configuration"

# Returns the bytes of a document. Raises SegserveError.
Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]


async def fetch_metadata(issuer: OidcIssuer, fetch: Fetch) -> dict[str, Any]:
    """Return the discovery document. Raises SegserveError, and ValueError for one that is not the issuer's own."""
    metadata = read_object(await fetch(f"{issuer.issuer.rstrip('/')}{DISCOVERY_PATH}"))
    if metadata.get("issuer") != issuer.issuer:
        raise ValueError("its discovery document names another issuer")
    return metadata


def read_endpoint(metadata: dict[str, Any], name: str) -> str:
    """Return an address of a discovery document. Raises ValueError for one that is missing, or not protected."""
    url = metadata.get(name)
    if not isinstance(url, str) or not is_trusted_transport(url):
        raise ValueError(f"its discovery document names no {name} with https")
    return url


def read_object(document: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError."""
    value = json.loads(document)
    if not isinstance(value, dict):
        raise ValueError("a document is no JSON object")
    return value
