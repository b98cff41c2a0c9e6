"""Keys: `segserve_<id>_<secret>`. The id finds the key's entry, the secret proves that the sender has it.

The secret is a random number of 256 bits, of which the SHA-256 is kept. A slow or salted hash, as passwords need,
would protect nothing more: nobody can try 2^256 numbers, and no two keys have the same one. It would cost 50 ms or
more at every click, where SHA-256 costs a microsecond. NIST SP 800-63B (5.1.2.2) says so of look-up secrets: those of
at least 112 bits of entropy are hashed with an approved one-way function, only shorter ones need salt and stretching.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest

from segserve.identity.identity import Identity

PREFIX = "segserve_"
ID_BYTES = 6
SECRET_BYTES = 32
# Compared with where there is no such key, so that this takes as long.
NO_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class Key:
    """`Key` is the entry of a key in the key file.

    hash: SHA-256 of the secret, in hexadecimal. expires: None never does.
    """

    id: str
    hash: str
    identity: Identity
    created: datetime
    expires: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        return self.expires is not None and self.expires <= now


def now() -> datetime:
    """Return the time in UTC, to the second, as key files have it."""
    return datetime.now(UTC).replace(microsecond=0)


def create_key(identity: Identity, expires: datetime | None = None) -> tuple[Key, str]:
    """Return a new key's entry, and the key itself, which is kept nowhere."""
    key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
    return Key(key_id, hash_secret(secret), identity, now(), expires), f"{PREFIX}{key_id}_{secret}"


def split_key(credential: str) -> tuple[str, str]:
    """Return the id and the secret of what looks like a key. Both are empty where it is none."""
    key_id, _, secret = credential.removeprefix(PREFIX).partition("_")
    return key_id, secret


def hash_secret(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def has_secret(key: Key | None, secret: str) -> bool:
    """Return whether a secret is the key's. Takes as long whether it is, and whether there is such a key."""
    expected = NO_HASH if key is None else key.hash
    return compare_digest(hash_secret(secret), expected) and key is not None
