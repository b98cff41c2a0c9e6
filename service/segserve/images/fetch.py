"""An image from elsewhere: fetched by URL from hosts that are allowed, never from where only we can reach.

A name is resolved once, every address it has is checked, and the connection goes to the very address that
was checked: a name that means something else a moment later changes nothing. A redirect is another URL and
passes the same checks.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from socket import SOCK_STREAM
from ssl import SSLContext
from typing import BinaryIO

import httpx

from segserve.errors import BadInput, FetchFailed, NoPermission, SegserveError, TooLarge

MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
NAT64 = IPv6Network("64:ff9b::/96")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[Address]]]


async def resolve(host: str, port: int) -> list[Address]:
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


class Fetcher:
    """hosts: exact names, or "*.example.org" for all names under it. private: also non-public addresses.

    `timeout_s` is for all of a fetch, `max_bytes` for its image.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        private: bool,
        timeout_s: float,
        max_bytes: int,
        resolve: Resolve = resolve,
    ) -> None:
        self._hosts = [host.lower().rstrip(".") for host in hosts]
        self._private, self._timeout_s, self._max_bytes = private, timeout_s, max_bytes
        self._resolve = resolve

    @cached_property
    def _tls(self) -> SSLContext:
        return httpx.create_ssl_context(trust_env=False)

    async def fetch(self, url: str, into: BinaryIO) -> None:
        """Raises BadInput, NoPermission, FetchFailed, TooLarge; all of them name the field `url`."""
        if not self._hosts:
            raise NoPermission(
                "Fetching images by URL is off.",
                field="url",
                remedy="Send the image's bytes, or ask the operator to set SEGSERVE_FETCH_HOSTS.",
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._follow(parse(url), into)
        except TimeoutError:
            raise failed(f"The fetch took longer than {self._timeout_s:g} s.") from None

    async def _follow(self, url: httpx.URL, into: BinaryIO) -> None:
        for _ in range(1 + MAX_REDIRECTS):
            async with self._get(url) as response:
                if response.status_code not in REDIRECTS:
                    await self._read(response, into)
                    return
                url = parse(response.headers.get("location", ""), base=url)
        raise failed(f"It is redirected more than {MAX_REDIRECTS} times.")

    @asynccontextmanager
    async def _get(self, url: httpx.URL) -> AsyncIterator[httpx.Response]:
        """The answer to one request, its body unread. A transport of its own each: no connection of one host
        is ever used for another that has the same address; and no proxies, cookies or redirects of its own."""
        host = url.raw_host.decode("ascii")
        headers = {
            "Host": url.netloc.decode("ascii"),
            "User-Agent": "segserve",
            "Accept": "image/*, */*;q=0.1",
            "Accept-Encoding": "identity",
        }
        addresses = await self._addresses(host, url)
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = None
            for address in addresses:
                try:
                    there = url.copy_with(host=str(address))
                    request = httpx.Request(
                        "GET", there, headers=headers, extensions={"sni_hostname": host.rstrip(".")}
                    )
                    response = await transport.handle_async_request(request)
                    break
                except (httpx.ConnectError, httpx.InvalidURL):
                    continue
                except httpx.HTTPError:
                    raise failed("Its host does not answer as a web server does.") from None
            if response is None:
                raise failed("Its host cannot be connected to.")
            try:
                yield response
            finally:
                await response.aclose()

    async def _addresses(self, host: str, url: httpx.URL) -> list[Address]:
        if not self._allowed(host.rstrip(".")):
            raise NoPermission(
                f"Images may not be fetched from {host!r}.",
                field="url",
                remedy="Send the image's bytes, or ask the operator to add the host to SEGSERVE_FETCH_HOSTS.",
            )
        try:
            addresses = await self._resolve(host, url.port or (443 if url.scheme == "https" else 80))
        except (OSError, UnicodeError, ValueError):
            raise failed(f"The name {host!r} has no address.") from None
        if not self._private and not all(is_public(address) for address in addresses):
            raise NoPermission(
                f"{host!r} has an address that is not public.",
                field="url",
                remedy="Send the image's bytes, or ask the operator to set SEGSERVE_FETCH_PRIVATE.",
            )
        return addresses

    def _allowed(self, host: str) -> bool:
        return any(
            host.endswith(allowed[1:]) if allowed.startswith("*.") else host == allowed
            for allowed in self._hosts
        )

    async def _read(self, response: httpx.Response, into: BinaryIO) -> None:
        """The body as it comes, never unpacked. What the other side says beyond its status stays here."""
        if response.status_code != 200:
            raise failed(f"Its host answered with status {described(response.status_code)}.")
        if (encoding := response.headers.get("content-encoding", "identity").lower()) != "identity":
            known = encoding if encoding in ("gzip", "deflate", "br", "zstd", "compress") else "another"
            raise failed(f"Its host sent it packed ({known} content encoding), although asked not to.")
        stated = response.headers.get("content-length", "")
        seen = int(stated) if stated.isdecimal() else 0
        try:
            if seen <= self._max_bytes:
                seen = 0
                async for chunk in response.aiter_raw():
                    seen += len(chunk)
                    if seen > self._max_bytes:
                        break
                    into.write(chunk)
        except httpx.HTTPError:
            raise failed("Its host broke off in the middle.") from None
        if seen > self._max_bytes:
            raise TooLarge(
                f"What the URL names is over {self._max_bytes / 1e6:g} MB.",
                field="url",
                remedy="Fetch a smaller image.",
            )


def parse(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """A URL that may be asked for. base: the one that was redirected to it. Raises BadInput, FetchFailed."""
    refuse = bad if base is None else failed
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        url.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise refuse("It is no URL." if base is None else "It is redirected to what is no URL.") from None
    if url.scheme not in ("http", "https", ""):
        raise refuse(f"The scheme {url.scheme!r} is not fetched.")
    if not url.scheme or not url.host:
        raise refuse("The URL has no host.")
    if url.port is not None and not 0 < url.port < 65536:
        raise refuse(f"There is no port {url.port}.")
    if url.userinfo:
        raise refuse("The URL holds credentials, which are not sent.")
    return url


def described(status: int) -> str:
    """404 -> "404 (Not Found)": the standard's words, not those of the other side."""
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def bad(message: str) -> SegserveError:
    remedy = "Send an absolute http or https URL without credentials, or the image's bytes."
    return BadInput(message, field="url", remedy=remedy)


def failed(message: str) -> SegserveError:
    return FetchFailed(
        f"The image cannot be fetched. {message}",
        field="url",
        remedy="Check the URL, or send the image's bytes.",
    )
