"""Calls to issuers of OpenID Connect: for their discovery documents, their keys, and the tokens of codes."""

import asyncio
from collections.abc import Mapping, Sequence
from io import BytesIO
from urllib.parse import urlencode

import httpx

from segserve.errors import BadInput, Unavailable
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.images.fetch_url import copy_any_body, copy_body
from segserve.outbound_http import Authorities, HostAllowlist, Resolve, UrlPurpose, parse_url, resolve_host

# A JWKS of ten keys with certificates has 20 KB.
MAX_DOCUMENT_BYTES = 256 << 10
TIMEOUT_S = 5.0
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SETTING = "oidc_issuers"
ISSUER_FETCH = UrlPurpose(
    field=SETTING,
    disabled="No issuer is configured.",
    denied="Keys of issuers may not be fetched from",
    failed="The document of an issuer cannot be fetched.",
    alternative="correct SEGSERVE_OIDC_ISSUERS",
    settings_prefix="SEGSERVE_OIDC",
)


class IssuerDocuments:
    """`IssuerDocuments` fetches documents of the configured issuers, and sends them forms.

    Hosts of the issuers may have any address: the operator has named them. A host that only a discovery document names
    must have a public one. Redirects are not followed.

    Raises BadInput for a file of authorities that cannot be read, or two of them for one host.
    """

    def __init__(self, issuers: Sequence[OidcIssuer], resolve: Resolve = resolve_host) -> None:
        self._resolve = resolve
        files = {host_of(issuer): issuer.ca_file for issuer in issuers}
        if any(files[host_of(issuer)] != issuer.ca_file for issuer in issuers):
            raise BadInput(
                "Issuers of one host have different files of authorities.",
                field=SETTING,
                remedy="Give them the same ca_file.",
            )
        # Those without a file make a TLS context when they are first used, which takes 0.1 s.
        self._issuers = {
            host: self._allow(
                host, private=True, authorities=None if path is None else Authorities(path, SETTING)
            )
            for host, path in files.items()
        }

    def _allow(self, host: str, *, private: bool, authorities: Authorities | None = None) -> HostAllowlist:
        return HostAllowlist(
            [host], private=private, purpose=ISSUER_FETCH, resolve=self._resolve, authorities=authorities
        )

    async def fetch(self, url: str) -> bytes:
        """Return a document. Raises SegserveError."""
        _, document = await self._request("GET", url, HEADERS, b"")
        return document

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send a form. Returns the status and the body of the answer, errors too. Raises SegserveError."""
        return await self._request("POST", url, {**HEADERS, **FORM, **headers}, urlencode(form).encode())

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, bytes]:
        parsed = parse_url(url, ISSUER_FETCH)
        host = parsed.raw_host.decode("ascii")
        allowed = self._issuers.get(host) or self._allow(host, private=False)
        document = BytesIO()
        copy = copy_body if method == "GET" else copy_any_body
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                allowed.request(method, parsed, headers, content) as response,
            ):
                await copy(response, document, MAX_DOCUMENT_BYTES, ISSUER_FETCH)
        except TimeoutError:
            raise Unavailable(f"The issuer did not answer within {TIMEOUT_S:g} s.") from None
        return response.status_code, document.getvalue()


def host_of(issuer: OidcIssuer) -> str:
    return httpx.URL(issuer.issuer).raw_host.decode("ascii")
