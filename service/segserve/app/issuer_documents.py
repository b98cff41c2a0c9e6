"""Fetching what issuers of OpenID Connect publish: their discovery documents and their keys."""

import asyncio
from collections.abc import Sequence
from io import BytesIO

import httpx

from segserve.errors import Unavailable
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.images.fetch_url import copy_body
from segserve.outbound_http import HostAllowlist, Resolve, UrlPurpose, parse_url, resolve_host

# A JWKS of ten keys with certificates has 20 KB.
MAX_DOCUMENT_BYTES = 256 << 10
TIMEOUT_S = 5.0
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
ISSUER_FETCH = UrlPurpose(
    field="oidc_issuers",
    disabled="No issuer is configured.",
    denied="Keys of issuers may not be fetched from",
    failed="The document of an issuer cannot be fetched.",
    alternative="correct SEGSERVE_OIDC_ISSUERS",
    settings_prefix="SEGSERVE_OIDC",
)


class IssuerDocuments:
    """`IssuerDocuments` fetches documents of the configured issuers.

    Hosts of the issuers may have any address: the operator has named them. A host that only a discovery document names
    must have a public one. Redirects are not followed.
    """

    def __init__(self, issuers: Sequence[OidcIssuer], resolve: Resolve = resolve_host) -> None:
        self._resolve = resolve
        hosts = {httpx.URL(issuer.issuer).raw_host.decode("ascii") for issuer in issuers}
        # Each makes a TLS context when it is first used, which takes 0.1 s.
        self._issuers = {host: self._allow(host, private=True) for host in hosts}

    def _allow(self, host: str, *, private: bool) -> HostAllowlist:
        return HostAllowlist([host], private=private, purpose=ISSUER_FETCH, resolve=self._resolve)

    async def fetch(self, url: str) -> bytes:
        """Return a document. Raises SegserveError."""
        parsed = parse_url(url, ISSUER_FETCH)
        host = parsed.raw_host.decode("ascii")
        allowed = self._issuers.get(host) or self._allow(host, private=False)
        document = BytesIO()
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                allowed.request("GET", parsed, HEADERS) as response,
            ):
                await copy_body(response, document, MAX_DOCUMENT_BYTES, ISSUER_FETCH)
        except TimeoutError:
            raise Unavailable(f"The issuer did not answer within {TIMEOUT_S:g} s.") from None
        return document.getvalue()
