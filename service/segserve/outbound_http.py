"""Outbound HTTP to hosts that users name, protected against SSRF (server-side request forgery).

Only hosts on an allowlist are called, and only at public addresses, unless the operator allows others. A host name is
resolved once, all its addresses are checked, and the connection goes to an address that was checked. So a name that
resolves to another address a moment later (DNS rebinding) changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from socket import SOCK_STREAM
from ssl import SSLContext, create_default_context

import httpx
import structlog

from segserve.errors import BadInput, FetchFailed, NotAllowed, SegserveError, quote
from segserve.file_version import read_file_version

# IPv6 addresses whose last 4 bytes are an IPv4 address (RFC 6052).
NAT64 = IPv6Network("64:ff9b::/96")

log = structlog.get_logger(__name__)

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]


async def resolve_host(host: str, port: int) -> list[Address]:
    """Return all addresses of a name, or of an address in any spelling that the system knows. Raises OSError."""
    entries = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in entries))


def is_public(address: Address) -> bool:
    """Return whether the whole internet can reach the address. An IPv4 address inside an IPv6 one counts as IPv4."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = IPv4Address(address.packed[-4:])
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass(frozen=True)
class UrlPurpose:
    """The purpose of a URL: the words of the errors about it.

    field: of the request, which holds the URL.
    disabled: sentence for when no host is allowed.
    denied: begins the sentence about a host that is not allowed; ends with "from" or "to".
    failed: sentence for a request that failed.
    alternative: what the user can do instead, in lower case.
    settings_prefix: of the two settings' names, which end in _HOSTS and _PRIVATE.
    """

    field: str
    disabled: str
    denied: str
    failed: str
    alternative: str
    settings_prefix: str

    def invalid_url(self, message: str) -> SegserveError:
        remedy = f"Send an absolute http or https URL without credentials, or {self.alternative}."
        return BadInput(message, field=self.field, remedy=remedy)

    def fetch_failed(self, message: str) -> SegserveError:
        remedy = f"Check the URL, or {self.alternative}."
        return FetchFailed(f"{self.failed} {message}", field=self.field, remedy=remedy)

    def not_allowed(self, message: str, remedy: str) -> SegserveError:
        remedy = f"{self.alternative[0].upper()}{self.alternative[1:]}, or ask the operator to {remedy}."
        return NotAllowed(message, field=self.field, remedy=remedy)


class Authorities:
    """`Authorities` trusts the certificates of a file of authorities, in PEM, and reads it again when it changes.

    setting: that names the file, for errors. Raises BadInput for a file that cannot be used at the start; one that gets
    broken later changes nothing.
    """

    def __init__(self, path: Path, setting: str) -> None:
        self._path = path
        self._version = read_file_version(path)
        try:
            self._context = create_default_context(cafile=path)
        except OSError:  # ssl.SSLError is one
            raise BadInput(
                f"The file {quote(str(path))} has no certificates that can be read.",
                field=setting,
                remedy="Name a file of authorities' certificates in PEM.",
            ) from None

    def context(self) -> SSLContext:
        """Blocks for as long as it takes to look at a small file."""
        version = read_file_version(self._path)
        if version != self._version:
            self._version = version
            try:
                self._context = create_default_context(cafile=self._path)
            except OSError as error:
                log.warning("authorities stay as they were", path=str(self._path), reason=str(error))
        return self._context


class HostAllowlist:
    """`HostAllowlist` sends requests to allowed hosts.

    names: exact names, or "*.example.org" for all names under it. Without names nothing is allowed.
    private: allow addresses that are not public too.
    purpose: what the URLs are for.
    resolve: looks up the addresses of a host.
    authorities: that certificates must be of; the public ones if left out.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        private: bool,
        purpose: UrlPurpose,
        resolve: Resolve = resolve_host,
        authorities: Authorities | None = None,
    ) -> None:
        self._names = [name.lower().rstrip(".") for name in names]
        self._private, self._purpose, self._resolve = private, purpose, resolve
        self._authorities = authorities

    @cached_property
    def _public_tls(self) -> SSLContext:
        return httpx.create_ssl_context(trust_env=False)

    @property
    def _tls(self) -> SSLContext:
        return self._public_tls if self._authorities is None else self._authorities.context()

    def check_enabled(self) -> None:
        """Raises NotAllowed if no host is allowed at all."""
        if not self._names:
            raise self._purpose.not_allowed(
                self._purpose.disabled, f"set {self._purpose.settings_prefix}_HOSTS"
            )

    def check_url(self, url: httpx.URL) -> str:
        """Return the URL's host if it is allowed. Raises NotAllowed."""
        host = url.raw_host.decode("ascii")
        if not self._is_allowed(host.rstrip(".")):
            purpose = self._purpose
            raise purpose.not_allowed(
                f"{purpose.denied} {quote(host)}.", f"add the host to {purpose.settings_prefix}_HOSTS"
            )
        return host

    def _is_allowed(self, host: str) -> bool:
        return any(
            host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed
            for allowed in self._names
        )

    @asynccontextmanager
    async def request(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes = b""
    ) -> AsyncIterator[httpx.Response]:
        """Send one request, and yield the response with its body unread.

        Each request has its own transport: a connection to one host is never reused for another host with the same
        address. There are no proxies, no cookies and no redirects. There is no time limit: the caller sets one.

        Raises NotAllowed, FetchFailed.
        """
        host = self.check_url(url)
        all_headers = {"Host": url.netloc.decode("ascii"), "User-Agent": "segserve", **headers}
        addresses = await self._resolve_and_check(host, url)
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = None
            for address in addresses:
                try:
                    request = httpx.Request(
                        method,
                        url.copy_with(host=str(address)),
                        headers=all_headers,
                        content=content or None,
                        extensions={"sni_hostname": host.rstrip(".")},
                    )
                    response = await transport.handle_async_request(request)
                    break
                except (httpx.ConnectError, httpx.InvalidURL):
                    continue
                except httpx.HTTPError:
                    raise self._purpose.fetch_failed(
                        "Its host does not answer as a web server does."
                    ) from None
            if response is None:
                raise self._purpose.fetch_failed("Its host cannot be connected to.")
            try:
                yield response
            finally:
                await response.aclose()

    async def _resolve_and_check(self, host: str, url: httpx.URL) -> list[Address]:
        """Return the addresses of the host. Raises NotAllowed, FetchFailed."""
        try:
            addresses = await self._resolve(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError, ValueError):
            raise self._purpose.fetch_failed(f"The name {quote(host)} has no address.") from None
        if not self._private and not all(is_public(address) for address in addresses):
            raise self._purpose.not_allowed(
                f"{quote(host)} has an address that is not public.",
                f"set {self._purpose.settings_prefix}_PRIVATE",
            )
        return addresses


def parse_url(text: str, purpose: UrlPurpose, base: httpx.URL | None = None) -> httpx.URL:
    """Return an absolute http or https URL without credentials.

    base: the URL that redirects to this one; `text` may be relative to it.

    Raises BadInput, or FetchFailed for a redirect.
    """
    error = purpose.invalid_url if base is None else purpose.fetch_failed
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        url.raw_host.decode("ascii")
        host = url.host  # decodes punycode
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise error(
            "This is not a URL." if base is None else "It redirects to something that is not a URL."
        ) from None
    if url.scheme not in ("http", "https", ""):
        raise error(f"The scheme {quote(url.scheme)} is not supported.")
    if not url.scheme or not host:
        raise error("The URL has no host.")
    if url.port is not None and not 0 < url.port < 65536:
        raise error(f"There is no port {url.port}.")
    if url.userinfo:
        raise error("The URL holds credentials, which are not sent.")
    return url


def describe_status(status: int) -> str:
    """Return "404 (Not Found)" for 404. The words are the standard's, not those of the other side."""
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)
