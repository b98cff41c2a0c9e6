"""Check that a DICOM file holds all pixels that its header states, before GDCM reads them (PS3.5).

GDCM leaves the rest of its buffers as it was where pixel data are cut short.
"""

import itertools
import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs

from segserve.errors import BadInput
from segserve.files.volume_completeness import ends_early_error

PREAMBLE_BYTES = 128
MAGIC = b"DICM"
# Sequences within sequences, far more than any file of a scanner has. GDCM calls itself for each.
MAX_DEPTH = 32
# Of a file in the deflated transfer syntax, unpacked.
MAX_INFLATED_BYTES = 1 << 30

IMPLICIT_LITTLE, EXPLICIT_BIG = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2"
DEFLATED, RLE = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.5"
UNKNOWN_LENGTH = 0xFFFFFFFF
# Value representations whose length has 4 bytes after 2 that are reserved (PS3.5, 7.1.2).
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}

# Tags as group << 16 | element.
TRANSFER_SYNTAX = 0x00020010
SAMPLES, FRAMES, ROWS, COLUMNS, BITS = 0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280100
PIXELS = {0x7FE00008: 4, 0x7FE00009: 8, 0x7FE00010: None}
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
RLE_HEADER = struct.Struct("<16I")


@dataclass(frozen=True)
class Element:
    """`Element` is one element of a data set. start: of its value. length: may be UNKNOWN_LENGTH."""

    tag: int
    vr: bytes
    start: int
    length: int


class DataSet:
    """`DataSet` walks through the elements of a file without calling itself.

    Raises EOFError where an element goes beyond the end, ValueError where what is read is no DICOM.
    """

    def __init__(self, data: bytes | mmap.mmap, start: int, *, explicit: bool, order: str) -> None:
        self._data, self._start, self._explicit, self._order = data, start, explicit, order

    def elements(self) -> Iterator[Element]:
        """Yield the elements that are not within a sequence."""
        at = self._start
        while at < len(self._data):
            element = self.read_element(at, self._explicit)
            yield element
            if element.tag in PIXELS:
                return
            at = self._skip(element)

    def read_element(self, at: int, explicit: bool) -> Element:
        group, number = self._unpack("HH", at)
        tag = group << 16 | number
        if not explicit or group == 0xFFFE:
            return Element(tag, b"", at + 8, self._unpack("I", at + 4)[0])
        vr = bytes(self._data[at + 4 : at + 6])
        if vr in LONG_VRS:
            return Element(tag, vr, at + 12, self._unpack("I", at + 8)[0])
        return Element(tag, vr, at + 8, self._unpack("H", at + 6)[0])

    def value(self, element: Element) -> bytes:
        self._check_end(element.start + element.length)
        return bytes(self._data[element.start : element.start + element.length])

    def _skip(self, element: Element) -> int:
        """Return where the next element begins. Goes through sequences of unknown length item by item."""
        if element.length != UNKNOWN_LENGTH:
            self._check_end(element.start + element.length)
            return element.start + element.length
        # Each level is a sequence, or an item of one; elements within UN have no representation (PS3.5, 6.2.2).
        levels, at = [(SEQUENCE_END, self._explicit and element.vr != b"UN")], element.start
        while levels:
            end, explicit = levels[-1]
            inner = self.read_element(at, explicit)
            at = inner.start
            if inner.tag == end:
                levels.pop()
            elif (inner.tag == ITEM) != (end == SEQUENCE_END):
                raise ValueError
            elif inner.length != UNKNOWN_LENGTH:
                at += inner.length
                self._check_end(at)
            elif len(levels) >= 2 * MAX_DEPTH:
                raise ValueError
            else:
                levels.append(
                    (ITEM_END if inner.tag == ITEM else SEQUENCE_END, explicit and inner.vr != b"UN")
                )
        return at

    def fragments(self, element: Element) -> Iterator[bytes]:
        """Yield the parts of encapsulated pixel data (PS3.5, A.4); the first is a table of offsets."""
        at = element.start
        while (item := self.read_element(at, False)).tag != SEQUENCE_END:
            if item.tag != ITEM or item.length == UNKNOWN_LENGTH:
                raise ValueError
            yield self.value(item)
            at = item.start + item.length

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        self._check_end(at + struct.calcsize("<" + form))
        return struct.unpack_from(self._order + form, self._data, at)

    def _check_end(self, end: int) -> None:
        if end > len(self._data):
            raise EOFError

    def number(self, element: Element) -> int:
        """Return the first value of an element of the representations US, UL and IS."""
        value = self.value(element)
        if element.tag == FRAMES:
            return int(value.split(b"\\")[0].strip(b" \0") or b"1")
        return int.from_bytes(value[:2], "little" if self._order == "<" else "big")


def check_dicom_complete(path: Path) -> None:
    """Raise BadInput for a file that ends before its last pixel, or that GDCM must not read."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ends_early_error(0, PREAMBLE_BYTES)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                check_pixels(*open_data_set(data))
            except EOFError:
                raise BadInput(
                    "A DICOM file in the zip ends early.",
                    field="file",
                    remedy="Is it complete? Copy it again.",
                ) from None
            except (ValueError, zlib.error):
                raise unclear_dicom_error() from None


def open_data_set(data: mmap.mmap) -> tuple[DataSet, bytes]:
    """Return the data set after the file's meta information, and the transfer syntax."""
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MAGIC)] != MAGIC:
        return DataSet(
            data, 0, explicit=False, order="<"
        ), IMPLICIT_LITTLE  # as before 1993, and as GDCM guesses
    start, syntax = PREAMBLE_BYTES + len(MAGIC), b""
    meta = DataSet(data, start, explicit=True, order="<")
    for element in meta.elements():
        if element.tag >> 16 != 2:
            break
        if element.tag == TRANSFER_SYNTAX:
            syntax = meta.value(element).strip(b" \0")
        start = element.start + element.length
    if syntax == DEFLATED:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        inflated = unpacker.decompress(data[start:], MAX_INFLATED_BYTES)
        if not unpacker.eof:
            raise EOFError
        return DataSet(inflated, 0, explicit=True, order="<"), syntax
    order = ">" if syntax == EXPLICIT_BIG else "<"
    return DataSet(data, start, explicit=syntax != IMPLICIT_LITTLE, order=order), syntax


def check_pixels(data_set: DataSet, syntax: bytes) -> None:
    """Raise BadInput, EOFError, ValueError unless all pixels are there."""
    numbers = {SAMPLES: 1, FRAMES: 1, ROWS: 0, COLUMNS: 0, BITS: 0}
    for element in data_set.elements():
        if element.tag in numbers:
            numbers[element.tag] = data_set.number(element)
        elif element.tag in PIXELS:
            break
    else:
        raise EOFError
    values = numbers[ROWS] * numbers[COLUMNS] * numbers[SAMPLES] * numbers[FRAMES]
    bits = PIXELS[element.tag]
    bits = numbers[BITS] if bits is None else 8 * bits
    if values <= 0 or bits <= 0:
        raise ValueError
    if element.length != UNKNOWN_LENGTH:
        needed = (values * bits + 7) // 8
        if len(data_set.value(element)) < needed:
            raise ends_early_error(element.length, needed)
        return
    fragments = list(data_set.fragments(element))[1:]
    if not any(fragments):
        raise ends_early_error(0, (values * bits + 7) // 8)
    if syntax == RLE:
        if len(fragments) != numbers[FRAMES]:
            raise ValueError
        for fragment in fragments:
            check_rle(fragment, numbers[SAMPLES] * (bits // 8), numbers[ROWS] * numbers[COLUMNS])


def check_rle(frame: bytes, segments: int, segment_bytes: int) -> None:
    """Check a frame: `segments` segments, each unpacked to `segment_bytes` (PS3.5, annex G). Raises ValueError."""
    if len(frame) < RLE_HEADER.size:
        raise EOFError
    count, *offsets = RLE_HEADER.unpack_from(frame)
    if count != segments or not 1 <= count <= 15:
        raise ValueError
    starts = [*offsets[:count], len(frame)]
    if starts[0] < RLE_HEADER.size or starts != sorted(starts):
        raise ValueError
    for start, end in itertools.pairwise(starts):
        try:
            present = len(imagecodecs.packbits_decode(frame[start:end]))
        except Exception:
            raise ValueError from None
        if present < segment_bytes:
            raise ends_early_error(present, segment_bytes)


def unclear_dicom_error() -> BadInput:
    return BadInput(
        "A DICOM file in the zip is damaged, or of a kind that is not read.",
        field="file",
        remedy="Open the series in a viewer and export it again.",
    )
