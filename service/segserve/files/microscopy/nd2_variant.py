"""Parse what ND2 keeps as trees of named values: "lite variants" in binary, and XML in files before version 3.

A lite variant is a sequence of (type, length of the name, name in UTF-16, value). A level holds others; the offsets of
its items follow it.
"""

import struct
import xml.etree.ElementTree as ET
import zlib
from typing import Any

from segserve.files.microscopy.xml_header import parse_xml

# Types of values; LEVEL holds others, COMPRESSED is a variant behind 10 bytes.
NUMBERS = {1: "<?", 2: "<i", 3: "<I", 4: "<q", 5: "<Q", 6: "<d", 7: "<Q"}
TEXT, BYTES, LEVEL, COMPRESSED = 8, 9, 11, 76
MAX_UNPACKED_BYTES = 64 << 20
MAX_DEPTH = 32
# Of a value in an XML.
WHOLE_NUMBERS = {"lx_uint32", "lx_int32", "lx_uint64", "lx_int64"}

Variant = dict[str, Any]


def parse_variant(data: bytes) -> Variant:
    """Return the values by name. Raises ValueError, and struct.error, zlib.error, UnicodeError, ET.ParseError."""
    if data.startswith(b"<"):
        return parse_xml_variant(data)
    if data[:1] == bytes([COMPRESSED]):
        data = zlib.decompressobj().decompress(data[12:], MAX_UNPACKED_BYTES)
    return parse_items(memoryview(data), 1, 0)


def parse_items(data: memoryview, count: int, depth: int) -> Variant:
    """Return `count` values from the beginning of the data. Those without a name get "0", "1" and so on."""
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    values: Variant = {}
    at = 0
    for number in range(count):
        start = at
        kind, chars = struct.unpack_from("BB", data, at)
        at += 2
        name = bytes(data[at : at + 2 * chars]).decode("utf-16-le").rstrip("\0") or str(number)
        at += 2 * chars
        if kind in NUMBERS:
            (values[name],) = struct.unpack_from(NUMBERS[kind], data, at)
            at += struct.calcsize(NUMBERS[kind])
        elif kind == TEXT:
            end = find_text_end(data, at)
            values[name] = bytes(data[at:end]).decode("utf-16-le", "replace")
            at = end + 2
        elif kind == BYTES:
            (length,) = struct.unpack_from("<Q", data, at)
            values[name] = bytes(data[at + 8 : at + 8 + length])
            at += 8 + length
        elif kind == LEVEL:
            items, length = struct.unpack_from("<IQ", data, at)
            values[name] = parse_items(data[at + 12 : start + length], items, depth + 1)
            at = start + length + 8 * items
        else:
            raise ValueError(f"a value of type {kind}")
    return values


def find_text_end(data: memoryview, at: int) -> int:
    """Return where the text ends: before two zero bytes."""
    while bytes(data[at : at + 2]) != b"\0\0":
        if at + 2 > len(data):
            raise ValueError("a text without end")
        at += 2
    return at


def parse_xml_variant(data: bytes) -> Variant:
    """Return the values of an XML by name; those of list items as "0", "1" and so on."""
    value = parse_node(parse_xml(data.rstrip(b"\0").decode()))
    # A variant has one item without a name.
    return value["no_name"] if set(value) == {"no_name"} else value


def parse_node(node: ET.Element) -> Variant:
    values: Variant = {}
    for number, child in enumerate(node):
        kind, value = child.get("runtype", ""), child.get("value")
        name = child.tag if child.tag not in values else str(number)
        if value is None:
            values[name] = parse_node(child)
        elif kind in WHOLE_NUMBERS:
            values[name] = int(value)
        elif kind == "CLxByteArray":
            values[name] = bytes(int(digit) for digit in value if digit in "01")
        else:
            values[name] = value
    return values
