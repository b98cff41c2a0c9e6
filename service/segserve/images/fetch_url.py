"""Download an image by URL, from allowed hosts only.

A redirect leads to another URL, which passes the same checks (see `outbound_http` for the SSRF protection).
"""

import asyncio
from collections.abc import Sequence
from typing import BinaryIO

import httpx

from segserve.errors import TooLarge
from segserve.outbound_http import (
    HostAllowlist,
    Resolve,
    UrlPurpose,
    describe_status,
    parse_url,
    resolve_host,
)

MAX_REDIRECTS = 3
REDIRECT_STATUSES = (301, 302, 303, 307, 308)
# "identity": a compressed body could unpack to more than the size limit.
HEADERS = {"Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"}
# Named in refusals. Other encodings are not repeated, for the other host chooses their text.
KNOWN_ENCODINGS = ("gzip", "deflate", "br", "zstd", "compress")
IMAGE_FETCH = UrlPurpose(
    field="url",
    disabled="Fetching images by URL is off.",
    denied="Images may not be fetched from",
    failed="The image cannot be fetched.",
    alternative="send the image's bytes",
    settings_prefix="SEGSERVE_FETCH",
)


class ImageFetcher:
    """`ImageFetcher` downloads images from allowed hosts.

    hosts, private: as `HostAllowlist` takes them.
    timeout_s: limit for one whole fetch, redirects included.
    max_bytes: limit for the image's size.
    """

    def __init__(
        self,
        hosts: Sequence[str],
        *,
        private: bool,
        timeout_s: float,
        max_bytes: int,
        resolve: Resolve = resolve_host,
    ) -> None:
        self._hosts = HostAllowlist(hosts, private=private, purpose=IMAGE_FETCH, resolve=resolve)
        self._timeout_s, self._max_bytes = timeout_s, max_bytes

    async def fetch(self, url: str, into: BinaryIO) -> None:
        """Write the image at `url` to `into`.

        Raises BadInput, NotAllowed, FetchFailed, TooLarge; all of them name the field `url`.
        """
        self._hosts.check_enabled()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._follow_redirects(parse_url(url, IMAGE_FETCH), into)
        except TimeoutError:
            raise IMAGE_FETCH.fetch_failed(f"The fetch took longer than {self._timeout_s:g} s.") from None

    async def _follow_redirects(self, url: httpx.URL, into: BinaryIO) -> None:
        for _ in range(1 + MAX_REDIRECTS):
            async with self._hosts.request("GET", url, HEADERS) as response:
                if response.status_code not in REDIRECT_STATUSES:
                    await copy_body(response, into, self._max_bytes, IMAGE_FETCH)
                    return
                url = parse_url(response.headers.get("location", ""), IMAGE_FETCH, base=url)
        raise IMAGE_FETCH.fetch_failed(f"It is redirected more than {MAX_REDIRECTS} times.")


async def copy_body(response: httpx.Response, into: BinaryIO, max_bytes: int, purpose: UrlPurpose) -> None:
    """Copy the body of an answer as it is sent, never decompressed.

    Of what the other host says, only its status is passed on. Raises FetchFailed, TooLarge.
    """
    if response.status_code != 200:
        raise purpose.fetch_failed(f"Its host answered with status {describe_status(response.status_code)}.")
    await copy_any_body(response, into, max_bytes, purpose)


async def copy_any_body(
    response: httpx.Response, into: BinaryIO, max_bytes: int, purpose: UrlPurpose
) -> None:
    """Copy the body of an answer, whatever its status. Raises FetchFailed, TooLarge."""
    if (encoding := response.headers.get("content-encoding", "identity").lower()) != "identity":
        named = encoding if encoding in KNOWN_ENCODINGS else "another"
        raise purpose.fetch_failed(f"Its host compressed it ({named} content encoding) against the request.")
    stated = response.headers.get("content-length", "")
    size = int(stated) if stated.isdecimal() else 0
    try:
        if size <= max_bytes:
            size = 0
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > max_bytes:
                    break
                into.write(chunk)
    except httpx.HTTPError:
        raise purpose.fetch_failed("Its host broke off in the middle.") from None
    if size > max_bytes:
        raise TooLarge(
            f"The file at the URL is over {max_bytes / 1e6:g} MB.",
            field=purpose.field,
            remedy="Fetch a smaller image.",
        )
