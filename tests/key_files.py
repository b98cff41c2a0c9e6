"""Key files for tests, and the keys in them."""

from collections.abc import Iterable
from pathlib import Path

from segserve.identity.identity import Identity
from segserve.identity.key import create_key
from segserve.identity.key_file import write_keys
from segserve.types import AccessRole


def write_key_file(path: Path, identities: Iterable[Identity]) -> dict[str, str]:
    """Write a key for each identity, and return the keys by the identities' names."""
    made = [create_key(identity) for identity in identities]
    write_keys(path, [key for key, _ in made])
    return {key.identity.name: token for key, token in made}


# One of each role, and annotators of another tenant.
IDENTITIES = (
    *(Identity("default", role, role.value) for role in AccessRole),
    Identity("other", AccessRole.ANNOTATOR, "stranger"),
)
