"""The media type of a body, read once: the limit on its size and its reader must see the same type."""

from collections.abc import Iterable

CONTENT_TYPE = b"content-type"
JSON = "application/json"


class ConflictingTypes(ValueError):
    """A request states several types."""


def read_media_type(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The media type of the raw headers in lower case, without parameters; empty if none is stated.

    Only spaces and tabs around it are no part of it (RFC 9110). Raises ConflictingTypes.
    """
    values = {value.strip(b" \t") for name, value in headers if name.lower() == CONTENT_TYPE}
    if len(values) > 1:
        raise ConflictingTypes
    value = values.pop() if values else b""
    return value.partition(b";")[0].strip(b" \t").lower().decode("latin-1")
