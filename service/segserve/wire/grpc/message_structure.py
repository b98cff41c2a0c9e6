"""Messages from the wire: their fields are counted before anything is built of them, malformed ones are refused.

gRPC itself would build the message in the event loop, and answer UNKNOWN if it is malformed. 4 MB can hold 2,000,000
empty prompts.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from segserve.errors import BadInput, TooLarge
from segserve.wire.http.json_structure import too_many_values
from segserve.wire.http.limits import MAX_EVENT_LOOP_JSON_BYTES
from segserve.wire.schemas.common import MAX_BODY_VALUES, MAX_JOB_VALUES, MAX_OBJECTS_VALUES
from segserve.wire.schemas.segment import MAX_SEGMENT_VALUES

Message: TypeAlias = Any  # google.protobuf.message.Message of a class that only the caller knows
Converted = TypeVar("Converted")

# Fields of a message, by its name, as many as REST takes values; all others have MAX_BODY_VALUES.
MAX_FIELDS = {
    "SegmentRequest": MAX_SEGMENT_VALUES,
    "SubmitJobRequest": MAX_JOB_VALUES,
    "AddPromptsRequest": MAX_OBJECTS_VALUES,
    "ModelInferRequest": MAX_SEGMENT_VALUES,  # pixels come as bytes
}
# Bytes of a text: an id, a name, an address. REST's schemas allow no longer one.
MAX_TEXT_BYTES = 4096
# These are longer: run lengths, and texts in the JSON of a Struct, which its schema checks.
LONG_TEXTS = {"counts", "string_value"}
MAX_DEPTH = 100  # protobuf's own limit
MAX_VARINT_BYTES = 10
VARINT, FIXED_64, LENGTH_DELIMITED, FIXED_32 = 0, 1, 2, 5  # wire types


def malformed() -> BadInput:
    return BadInput(
        "The message is malformed.",
        field="message",
        remedy="Send what proto/segserve/v1 defines.",
    )


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number at a position, and the position after it. Raises BadInput."""
    value = 0
    for index in range(position, min(end, position + MAX_VARINT_BYTES)):
        byte = data[index]
        value |= (byte & 0x7F) << 7 * (index - position)
        if byte < 0x80:
            return value, index + 1
    raise malformed()


def check_fields(data: bytes, descriptor: Any, max_fields: int) -> None:
    """Count the fields of a message and of all messages in it, as far as the limit, and look at the length of texts.

    descriptor: of the message. Raises TooLarge, BadInput.
    """
    FieldCounter(data, max_fields).count(0, len(data), descriptor)


class FieldCounter:
    """`FieldCounter` counts fields. A function in a function would refer to itself, and so keep the data until the
    garbage collector comes by.
    """

    def __init__(self, data: bytes, max_fields: int) -> None:
        self._data, self._max_fields = data, max_fields
        self._left = max_fields

    def count(self, position: int, end: int, descriptor: Any, depth: int = 0) -> None:
        """Count the fields of the message from a position to an end. Raises TooLarge, BadInput."""
        data = self._data
        if depth > MAX_DEPTH:
            raise malformed()
        while position < end:
            self._take(1)
            tag, position = read_varint(data, position, end)
            wire_type = tag & 7
            if wire_type == VARINT:
                _, position = read_varint(data, position, end)
            elif wire_type == FIXED_64:
                position += 8
            elif wire_type == FIXED_32:
                position += 4
            elif wire_type == LENGTH_DELIMITED:
                length, position = read_varint(data, position, end)
                if length > end - position:
                    raise malformed()
                field = descriptor.fields_by_number.get(tag >> 3)
                if field is not None and field.message_type is not None:
                    self.count(position, position + length, field.message_type, depth + 1)
                elif field is not None and field.type == field.TYPE_STRING:
                    check_text(field.name, length)
                elif field is not None and field.is_repeated and field.cpp_type != field.CPPTYPE_STRING:
                    self._take(length)  # packed numbers: a byte or more each
                position += length
            else:  # groups, which no message of ours has
                raise malformed()
        if position > end:
            raise malformed()

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise too_many_values(self._max_fields)


def check_text(name: str, length: int) -> None:
    """Raise TooLarge where a text is longer than any of its name needs to be. length: bytes."""
    if length > MAX_TEXT_BYTES and name not in LONG_TEXTS:
        raise TooLarge(
            f"The text has {length} bytes.", field=name, remedy=f"Send at most {MAX_TEXT_BYTES} bytes."
        )


def parse(data: bytes, message_class: Any) -> Message:
    """The message. Blocks. Raises TooLarge, BadInput."""
    descriptor = message_class.DESCRIPTOR
    check_fields(data, descriptor, MAX_FIELDS.get(descriptor.name, MAX_BODY_VALUES))
    try:
        return message_class.FromString(data)
    except DecodeError:
        raise malformed() from None


async def parse_message(data: bytes, message_class: Any) -> Message:
    """The message. A large one is read in a thread. Raises TooLarge, BadInput."""
    if len(data) <= MAX_EVENT_LOOP_JSON_BYTES:
        return parse(data, message_class)
    return await asyncio.to_thread(parse, data, message_class)


async def convert_message(convert: Callable[[Message], Converted], message: Message) -> Converted:
    """What `convert` makes of a message. A large one is converted in a thread. Raises what `convert` raises."""
    if message.ByteSize() <= MAX_EVENT_LOOP_JSON_BYTES:
        return convert(message)
    return await asyncio.to_thread(convert, message)
