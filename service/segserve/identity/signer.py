"""Signed texts: JSON that goes through a browser, which cannot change it. HMAC-SHA256, by a secret of all replicas."""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

# Longer texts are none of ours.
MAX_SIGNED_CHARACTERS = 2048


class Signer:
    """`Signer` makes texts of JSON objects, and reads its own. purpose: texts of one purpose are none of another."""

    def __init__(self, secret: bytes, purpose: bytes) -> None:
        self._key = hmac.digest(secret, purpose, "sha256")

    def sign(self, content: dict[str, Any]) -> str:
        encoded = encode(orjson.dumps(content))
        return b".".join((encoded, self._mac(encoded))).decode()

    def read(self, text: str) -> dict[str, Any] | None:
        """Return the object, or None where we have not signed it."""
        content, dot, mac = text.encode("utf-8", "replace").partition(b".")
        if not dot or len(text) > MAX_SIGNED_CHARACTERS or not hmac.compare_digest(mac, self._mac(content)):
            return None
        read: dict[str, Any] = orjson.loads(urlsafe_b64decode(content + b"=="))
        return read

    def _mac(self, content: bytes) -> bytes:
        return encode(hmac.digest(self._key, content, "sha256"))


class Signers:
    """`Signers` has a signer for each purpose.

    load_secret: returns the secret that all replicas share; called when it is first needed. Raises Unavailable.
    """

    def __init__(self, load_secret: Callable[[], Awaitable[bytes]]) -> None:
        self._load_secret = load_secret
        self._signers: dict[bytes, Signer] = {}

    async def get(self, purpose: bytes) -> Signer:
        """Raises Unavailable."""
        signer = self._signers.get(purpose)
        if signer is None:
            signer = self._signers[purpose] = Signer(await self._load_secret(), purpose)
        return signer


def encode(data: bytes) -> bytes:
    """Return base64 without "=", which cookies and addresses would have to quote."""
    return urlsafe_b64encode(data).rstrip(b"=")
