"""Numbers of protobuf enums to the enums used inside."""

from collections.abc import Mapping
from typing import TypeVar

from segserve.errors import BadInput

T = TypeVar("T")


def decode_enum(meanings: Mapping[int, T], number: int, field: str) -> T:
    """The meaning of an enum's number. Raises BadInput for a number that only newer clients know."""
    if number not in meanings:
        raise BadInput(f"{number} is not known here.", field=field, remedy=f"Send one of {sorted(meanings)}.")
    return meanings[number]
