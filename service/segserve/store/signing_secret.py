"""The secret that signs logins and links: of the settings, or one in the object store that all replicas share."""

import secrets

from segserve.errors import BadInput
from segserve.store import object_paths
from segserve.store.object_store import ObjectStore

SECRET_BYTES = 32
MIN_SECRET_CHARACTERS = 32


class SigningSecret:
    """`SigningSecret` is read when it is first needed, and made where there is none yet.

    given: of the settings; then the object store is not asked. Raises BadInput for one that is too short.
    """

    def __init__(self, objects: ObjectStore, given: str | None) -> None:
        self._objects = objects
        if given is not None and len(given) < MIN_SECRET_CHARACTERS:
            raise BadInput(
                f"The setting signing_secret has under {MIN_SECRET_CHARACTERS} characters.",
                field="signing_secret",
                remedy="Take a random one: openssl rand -hex 32",
            )
        self._secret = None if given is None else given.encode()

    async def load(self) -> bytes:
        """Return the secret, the same one in every replica. Raises Unavailable, StorageFull."""
        if self._secret is None:
            self._secret = await self._objects.get(object_paths.SIGNING_SECRET)
        if self._secret is None:
            # Of replicas that do this at once, one is first.
            await self._objects.put_new(object_paths.SIGNING_SECRET, secrets.token_bytes(SECRET_BYTES))
            self._secret = await self._objects.get(object_paths.SIGNING_SECRET)
        assert self._secret is not None
        return self._secret
