"""The authenticator of keys: the key file in memory, read again when it changes."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from segserve.errors import BadInput, Unauthenticated
from segserve.file_version import read_file_version
from segserve.identity.identity import Identity
from segserve.identity.key import PREFIX, Key, has_secret, split_key
from segserve.identity.key_file import read_keys

# How often the file is looked at. A key that is revoked there is refused after so long.
CHECK_INTERVAL_S = 1.0

REMEDY = "Ask the operator for another one."

log = structlog.get_logger(__name__)


class KeyAuthenticator:
    """`KeyAuthenticator` knows the keys of the key file. A file that gets broken keeps the keys that were read last.

    Raises BadInput for a file that cannot be read at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = read_file_version(path)
        self._set(read_keys(path))

    def recognises(self, credential: str) -> bool:
        return credential.startswith(PREFIX)

    async def authenticate(self, credential: str) -> Identity:
        """Return whose key it is. Raises Unauthenticated, for every reason alike until the secret is proven."""
        key_id, secret = split_key(credential)
        key = self._keys.get(key_id)
        if not has_secret(key, secret) or key is None:
            raise Unauthenticated("The key is not known.", remedy=REMEDY)
        if key.is_expired(datetime.now(UTC)):
            raise Unauthenticated("The key has expired.", remedy=REMEDY)
        return key.identity

    def find(self, key_id: str) -> Identity | None:
        """Return whose key this is, None where it was revoked or has expired. Of a key that was proven before."""
        key = self._keys.get(key_id)
        return None if key is None or key.is_expired(datetime.now(UTC)) else key.identity

    async def watch(self) -> None:
        """Read the file again when it has changed, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Read the file if it has changed. Blocks."""
        version = read_file_version(self._path)
        if version == self._version:
            return
        self._version = version
        try:
            self._set(read_keys(self._path))
        except BadInput as error:
            log.error(f"the keys stay as they were: {error}")
            return
        log.info("the key file was read again", keys=len(self._keys))

    def _set(self, keys: Sequence[Key]) -> None:
        self._keys = {key.id: key for key in keys}
