"""Requests to Label Studio itself: for files of tasks, and for the list of a project's tasks.

They go to the URL of a project's connection only, with the project's token, and read only. A redirect to another host,
such as to the address of a file in a bucket, is followed without the token, where SEGSERVE_FETCH_HOSTS allows it.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Mapping
from io import BytesIO
from typing import Any, BinaryIO

import httpx
import orjson
from cachetools import LRUCache

from segserve.app import Service
from segserve.errors import NotAllowed
from segserve.images.fetch_url import HEADERS, MAX_REDIRECTS, REDIRECT_STATUSES, copy_body
from segserve.outbound_http import HostAllowlist, UrlPurpose, parse_url
from segserve.types import MB
from segserve.wire.frontends.label_studio.connections import Connection

Json = dict[str, Any]

SITE = UrlPurpose(
    field="tasks",
    disabled="Fetching from Label Studio is off.",
    denied="Files of tasks may not be fetched from",
    failed="The file of the task cannot be fetched.",
    alternative="import it into Label Studio again",
    settings_prefix="SEGSERVE_LABEL_STUDIO",
)
REFRESH_PATH = "/api/token/refresh/"
MAX_SITES = 16
MAX_TOKENS = 1024
# An access token is not used any more so long before it ends, and never longer than the second.
TOKEN_MARGIN_S = 30.0
MAX_TOKEN_USE_S = 240.0
# Of a page of tasks, with all their fields.
MAX_JSON_BYTES = 64 * MB
DENIED = (401, 403)


class Site:
    """`Site` speaks to Label Studio for the projects that are connected."""

    def __init__(self, service: Service) -> None:
        self._service, self._timeout_s = service, service.settings.fetch_timeout_s
        self._hosts: LRUCache[str, HostAllowlist] = LRUCache(MAX_SITES)
        self._refreshing = asyncio.Lock()  # requests that come together exchange a token once
        # Access tokens, and when they are not used any more, by (URL, refresh token).
        self._access: LRUCache[tuple[str, str], tuple[str, float]] = LRUCache(MAX_TOKENS)

    async def fetch(
        self, connection: Connection, path: str, into: BinaryIO, max_bytes: int, timeout_s: float
    ) -> None:
        """Write a file of Label Studio to `into`. path: below its URL, with the query.

        Raises NotAllowed, FetchFailed, TooLarge.
        """
        base = connection.expect_url()
        try:
            async with asyncio.timeout(timeout_s):
                await self._follow(connection, parse_url(base + path, SITE), into, max_bytes)
        except TimeoutError:
            raise SITE.fetch_failed(f"The fetch took longer than {timeout_s:g} s.") from None

    async def _follow(self, connection: Connection, url: httpx.URL, into: BinaryIO, max_bytes: int) -> None:
        base = httpx.URL(connection.expect_url())
        headers = {**HEADERS, **await self._authorization(connection)}
        for _ in range(1 + MAX_REDIRECTS):
            if origin(url) != origin(base):
                await self._service.image_fetcher.fetch(str(url), into)
                return
            async with self._allowed(base).request("GET", url, headers) as response:
                if response.status_code not in REDIRECT_STATUSES:
                    check_allowed(response.status_code)
                    await copy_body(response, into, max_bytes, SITE)
                    return
                url = parse_url(response.headers.get("location", ""), SITE, base=url)
        raise SITE.fetch_failed(f"It is redirected more than {MAX_REDIRECTS} times.")

    async def read_json(self, connection: Connection, path: str) -> Any:
        """Return what Label Studio's API answers. Raises as `fetch`."""
        file = BytesIO()
        await self.fetch(connection, path, file, MAX_JSON_BYTES, self._timeout_s)
        try:
            return await asyncio.to_thread(orjson.loads, file.getbuffer())
        except orjson.JSONDecodeError:
            raise SITE.fetch_failed("Label Studio's answer is no JSON.") from None

    async def _authorization(self, connection: Connection) -> Mapping[str, str]:
        """Return the header that opens the project's files. Raises NotAllowed, FetchFailed."""
        token = connection.token
        if not token:
            return {}
        claims = read_claims(token)
        if claims is None:
            return {"Authorization": f"Token {token}"}
        if claims.get("token_type") == "refresh":
            async with self._refreshing:
                token = await self._refresh(connection, token)
        return {"Authorization": f"Bearer {token}"}

    async def _refresh(self, connection: Connection, token: str) -> str:
        """Return the access token that a personal access token is exchanged for. Raises NotAllowed, FetchFailed."""
        base = connection.expect_url()
        access, until = self._access.get((base, token), ("", 0.0))
        if time.time() < until:
            return access
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        url, file = parse_url(base + REFRESH_PATH, SITE), BytesIO()
        content = orjson.dumps({"refresh": token})
        async with self._allowed(httpx.URL(base)).request("POST", url, headers, content) as response:
            check_allowed(response.status_code)
            await copy_body(response, file, MB, SITE)
        try:
            access = str(orjson.loads(file.getbuffer())["access"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise SITE.fetch_failed("Label Studio gives no access token for the project's token.") from None
        ends_at = float((read_claims(access) or {}).get("exp", 0))
        until = min(ends_at - TOKEN_MARGIN_S, time.time() + MAX_TOKEN_USE_S)
        self._access[base, token] = access, until
        return access

    def _allowed(self, base: httpx.URL) -> HostAllowlist:
        """Return what calls Label Studio's host alone. Whether it may be private was decided with the URL."""
        host = base.raw_host.decode("ascii")
        if (hosts := self._hosts.get(host)) is None:
            hosts = self._hosts[host] = HostAllowlist((host,), private=True, purpose=SITE)
        return hosts


def origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def check_allowed(status: int) -> None:
    """Raise NotAllowed where Label Studio does not accept the token."""
    if status in DENIED:
        raise NotAllowed(
            f"Label Studio does not accept the token of the project's owner (status {status}).",
            field="access_token",
            remedy="Allow legacy tokens in Organization, API Tokens Settings, or ask the operator to set"
            " SEGSERVE_LABEL_STUDIO_TOKEN to a personal access token.",
        )


def read_claims(token: str) -> Json | None:
    """Return what a JSON web token says of itself, unchecked; None for another kind of token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None
