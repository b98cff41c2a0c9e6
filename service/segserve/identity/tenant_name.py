"""The names of tenants, which are parts of object paths, Redis keys and metrics."""

import re

from segserve.errors import BadInput, quote

# No "/", "." or upper case, so that a name is one folder in every object store; no ":" and nothing that a pattern of
# Redis reads, so that the keys of one tenant never match those of another.
TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
# What stands in the place of a tenant in Redis keys of all tenants together.
RESERVED_NAMES = frozenset(("deleted", "deletions", "encoded", "jobs", "rates", "usage"))
# For messages.
NAME_RULE = (
    "1 to 63 lower-case letters, digits, '-' and '_'; the first is a letter or a digit;"
    f" not {', '.join(sorted(RESERVED_NAMES))}"
)


def is_tenant_name(name: str) -> bool:
    """Return whether a tenant may have this name."""
    return TENANT_NAME.fullmatch(name) is not None and name not in RESERVED_NAMES


def check_tenant_name(name: str, field: str = "tenant") -> str:
    """Return the name. Raises BadInput, naming the field, if no tenant may have it."""
    if not is_tenant_name(name):
        raise BadInput(
            f"{quote(name)} is no name of a tenant.",
            field=field,
            remedy=f"Take {NAME_RULE}.",
        )
    return name
