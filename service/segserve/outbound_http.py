"""Requests to hosts elsewhere that users name: to those that are allowed, and never to where only we can reach.

A name is resolved once, every address it has is checked, and the connection goes to the very address that
was checked: a name that means something else a moment later changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from socket import SOCK_STREAM
from ssl import SSLContext

import httpx

from segserve.errors import BadInput, FetchFailed, NotAllowed, SegserveError

NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]


async def resolve_host(host: str, port: int) -> list[Address]:
    """Every address of a name, or of a number in any spelling that the system knows. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found))


def is_public(address: Address) -> bool:
    """Whether the whole internet can reach it; an IPv4 address inside an IPv6 one is judged as itself."""
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
    """What refusals say. field: of the request that names the URL. off, denied, failed: sentences; denied ends with
    "from" or "to". instead: what else to do. settings: their names, without _HOSTS and _PRIVATE."""

    field: str
    off: str
    denied: str
    failed: str
    instead: str
    settings: str

    def invalid_url(self, message: str) -> SegserveError:
        remedy = f"Send an absolute http or https URL without credentials, or {self.instead}."
        return BadInput(message, field=self.field, remedy=remedy)

    def fetch_failed(self, message: str) -> SegserveError:
        remedy = f"Check the URL, or {self.instead}."
        return FetchFailed(f"{self.failed} {message}", field=self.field, remedy=remedy)

    def not_allowed(self, message: str, remedy: str) -> SegserveError:
        remedy = f"{self.instead[0].upper()}{self.instead[1:]}, or ask the operator to {remedy}."
        return NotAllowed(message, field=self.field, remedy=remedy)


class HostAllowlist:
    """names: exact, or "*.example.org" for all names under it; none turns it off. private: also non-public
    addresses."""

    def __init__(
        self,
        names: Sequence[str],
        *,
        private: bool,
        purpose: UrlPurpose,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._names = [name.lower().rstrip(".") for name in names]
        self._private, self._purpose, self._resolve = private, purpose, resolve

    @cached_property
    def _tls(self) -> SSLContext:
        return httpx.create_ssl_context(trust_env=False)

    def check_enabled(self) -> None:
        """Raises NotAllowed where no host is allowed at all."""
        if not self._names:
            raise self._purpose.not_allowed(self._purpose.off, f"set {self._purpose.settings}_HOSTS")

    def check_url(self, url: httpx.URL) -> str:
        """Its host, which is allowed. Raises NotAllowed."""
        host = url.raw_host.decode("ascii")
        if not self._allowed(host.rstrip(".")):
            words = self._purpose
            raise words.not_allowed(f"{words.denied} {host!r}.", f"add the host to {words.settings}_HOSTS")
        return host

    def _allowed(self, host: str) -> bool:
        return any(
            host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed
            for allowed in self._names
        )

    @asynccontextmanager
    async def request(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: bytes = b""
    ) -> AsyncIterator[httpx.Response]:
        """The answer to one request, its body unread. A transport of its own each: no connection of one host
        is ever used for another that has the same address; and no proxies, cookies or redirects of its own.
        Raises NotAllowed, FetchFailed. It has no time limit: the caller sets one."""
        host = self.check_url(url)
        sent = {"Host": url.netloc.decode("ascii"), "User-Agent": "segserve", **headers}
        addresses = await self._addresses(host, url)
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = None
            for address in addresses:
                try:
                    request = httpx.Request(
                        method,
                        url.copy_with(host=str(address)),
                        headers=sent,
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

    async def _addresses(self, host: str, url: httpx.URL) -> list[Address]:
        try:
            addresses = await self._resolve(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError, ValueError):
            raise self._purpose.fetch_failed(f"The name {host!r} has no address.") from None
        if not self._private and not all(is_public(address) for address in addresses):
            raise self._purpose.not_allowed(
                f"{host!r} has an address that is not public.", f"set {self._purpose.settings}_PRIVATE"
            )
        return addresses


def parse_url(text: str, purpose: UrlPurpose, base: httpx.URL | None = None) -> httpx.URL:
    """A URL that may be asked for. base: the one that was redirected to it. Raises BadInput, FetchFailed."""
    refuse = purpose.invalid_url if base is None else purpose.fetch_failed
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        url.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise refuse("It is no URL." if base is None else "It is redirected to what is no URL.") from None
    if url.scheme not in ("http", "https", ""):
        raise refuse(f"The scheme {url.scheme!r} is not taken.")
    if not url.scheme or not url.host:
        raise refuse("The URL has no host.")
    if url.port is not None and not 0 < url.port < 65536:
        raise refuse(f"There is no port {url.port}.")
    if url.userinfo:
        raise refuse("The URL holds credentials, which are not sent.")
    return url


def describe_status(status: int) -> str:
    """404 -> "404 (Not Found)": the standard's words, not those of the other side."""
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)
