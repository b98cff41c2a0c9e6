"""Read a volume's voxels from where its header says that they are, and check that all of them are in the file.

The formats differ in their headers only (`volume_headers/`). What is behind them is read here: raw, compressed by gzip,
zlib, bzip2 or Blosc 2, or as text. Nothing is ever returned that is not in the file.
"""

import bz2
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.sandbox.confine import allow_memory

CHUNK_BYTES = 1 << 20
# Unpacked bytes after the voxels that are checked too. A stream of more is a bomb, or has its damage far behind.
MAX_EXCESS_BYTES = 64 << 20
# Characters of a number in a text. Longer ones are no numbers.
MAX_NUMBER_CHARS = 400
# Window sizes by which zlib knows a format: gzip, and gzip or zlib.
GZIP, GZIP_OR_ZLIB = 31, 47
GZIP_MAGIC, BZIP2_MAGIC = b"\x1f\x8b", b"BZh"
# A number of chunks, the lengths of one, and the length that is in its own header.
_CHUNK_COUNT, _CHUNK_LENGTHS, _BLOSC2_HEADER = (struct.Struct(layout) for layout in ("<I", "<QQ", "<4xi8x"))
# A chunk of Blosc 2 is longer than what it holds by its header at most.
_BLOSC2_OVERHEAD_BYTES = 32


@dataclass(frozen=True)
class VoxelData:
    """`VoxelData` says where a file's values are.

    start: offset in the file at which they, or the compressed stream with them, begin.
    end: offset at which they end at the latest; None: the file's end.
    skip: bytes of the unpacked stream before the first value.
    count: number of values; a voxel of colour has several.
    dtype: of a value, in the file's byte order.
    encoding: "raw", "deflate", "gzip", "bzip2", "blosc2" (see `read_blosc2`), "text" (numbers) or "hex".
    is_at_end: whether raw values are the file's last bytes; there may be others between `start` and them.
    """

    start: int
    end: int | None
    skip: int
    count: int
    dtype: np.dtype[Any]
    encoding: str
    is_at_end: bool = False

    @property
    def length(self) -> int:
        """Bytes of all values."""
        return self.count * self.dtype.itemsize


class Unpacker(Protocol):
    """A decompressor of the standard library, for one stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def read_head(file: BinaryIO, encoding: str, size: int) -> bytes:
    """Return the first bytes of a file, unpacked where the encoding is "gzip": `size`, or fewer in a short one."""
    if encoding != "gzip":
        file.seek(0)
        return file.read(size)
    head = b""
    with suppress(EOFError, zlib.error):
        for part in read_unpacked(file, 0, None, GZIP, size):
            head += part
            if len(head) >= size:
                break
    return head[:size]


def check_complete(file: BinaryIO, data: VoxelData) -> None:
    """Check that all values are in the file, which is read once where they are not raw. Raises BadInput."""
    file_bytes = file.seek(0, 2)
    if data.end is not None and data.end > file_bytes:
        raise ends_early_error(file_bytes, data.end)
    if data.encoding == "raw":
        start, end = find_raw(data, file_bytes)
        if end - start < data.length:
            raise ends_early_error(max(0, end - start), data.length)
        return
    excess = 0
    for part in unpack_values(file, data):
        excess += len(part)
        if excess > data.length + MAX_EXCESS_BYTES:
            return


def read_values(file: BinaryIO, data: VoxelData, first: int, count: int) -> NDArray[Any]:
    """Return `count` values from number `first` on, in the machine's byte order. Raises BadInput, and MemoryError."""
    size = data.dtype.itemsize
    values = np.empty(count, data.dtype)
    target = values.view(np.uint8).data
    if data.encoding == "raw":
        start, end = find_raw(data, file.seek(0, 2))
        if end - start < data.length:
            raise ends_early_error(max(0, end - start), data.length)
        file.seek(start + first * size)
        at = 0
        while at < len(target) and (read := file.readinto(target[at:])):  # type: ignore[attr-defined]
            at += read
        if at < len(target):
            raise ends_early_error(at, data.length)
    else:
        at, skip = 0, first * size
        for part in unpack_values(file, data):
            begin = min(skip, len(part))
            skip -= begin
            taken = part[begin : begin + len(target) - at]
            target[at : at + len(taken)] = taken
            at += len(taken)
            if at == len(target):
                break
    return values if values.dtype.isnative else values.byteswap(inplace=True).view(data.dtype.newbyteorder())


def find_raw(data: VoxelData, file_bytes: int) -> tuple[int, int]:
    """Return the offsets at which raw values begin and end at the latest."""
    end = file_bytes if data.end is None else min(data.end, file_bytes)
    start = data.start + data.skip
    return max(start, end - data.length) if data.is_at_end else start, end


def unpack_values(file: BinaryIO, data: VoxelData) -> Iterator[bytes]:
    """Yield the bytes of the values, and what is behind them in the same stream.

    Raises BadInput where the file ends early, at the latest after the last part.
    """
    if data.encoding == "text":
        yield from parse_text(file, data)
        return
    count, skip = 0, data.skip
    try:
        for part in open_stream(file, data):
            kept = part[skip:]
            skip -= min(skip, len(part))
            count += len(kept)
            yield kept
    except EOFError:
        raise ends_early_error(min(count, data.length), data.length) from None
    except (zlib.error, OSError):
        raise BadInput(
            f"The compressed voxels are damaged after byte {min(count, data.length)} of {data.length}.",
            field="file",
            remedy="Save the volume again, or send it once more.",
        ) from None
    if count < data.length:
        raise ends_early_error(count, data.length)


def open_stream(file: BinaryIO, data: VoxelData) -> Iterator[bytes]:
    """Yield the unpacked parts of a stream. Raises EOFError, zlib.error, OSError."""
    match data.encoding:
        case "hex":
            return read_hex(file, data.start)
        case "gzip":
            return read_unpacked(file, data.start, data.end, GZIP)
        case "bzip2":
            return read_bunzipped(file, data.start)
        case "blosc2":
            return read_blosc2(file, data)
        case _:
            return read_unpacked(file, data.start, data.end, GZIP_OR_ZLIB)


def read_unpacked(
    file: BinaryIO, start: int, end: int | None, window: int, part_bytes: int = CHUNK_BYTES
) -> Iterator[bytes]:
    """Yield the unpacked parts of a compressed stream, each up to `part_bytes`, and of further gzip members after it.

    Raises EOFError where the stream has no end, zlib.error where it is damaged.
    """
    file.seek(start)
    unpacker, packed = zlib.decompressobj(window), b""
    while True:
        if not packed:
            size = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - file.tell())
            if size <= 0 or not (packed := file.read(size)):
                raise EOFError
        part = unpacker.decompress(packed, part_bytes)
        packed = unpacker.unconsumed_tail
        if part:
            yield part
        if unpacker.eof:
            packed = unpacker.unused_data
            packed += file.read(max(0, len(GZIP_MAGIC) - len(packed)))
            if window != GZIP or not packed.startswith(GZIP_MAGIC):
                return
            unpacker = zlib.decompressobj(window)


def read_bunzipped(file: BinaryIO, start: int) -> Iterator[bytes]:
    """Yield the unpacked parts of a bzip2 stream, each up to CHUNK_BYTES, and of further streams after it.

    Raises EOFError where the stream has no end, OSError where it is damaged.
    """
    file.seek(start)
    unpacker, packed = bz2.BZ2Decompressor(), b""
    while True:
        if unpacker.needs_input and not packed and not (packed := file.read(CHUNK_BYTES)):
            raise EOFError
        part = unpacker.decompress(packed, CHUNK_BYTES)
        packed = b""
        if part:
            yield part
        if unpacker.eof:
            packed = unpacker.unused_data
            packed += file.read(max(0, len(BZIP2_MAGIC) - len(packed)))
            if not packed.startswith(BZIP2_MAGIC):
                return
            unpacker = bz2.BZ2Decompressor()


def read_blosc2(file: BinaryIO, data: VoxelData) -> Iterator[bytes]:
    """Yield the unpacked chunks of Blosc 2: their number, then each after its lengths, unpacked and packed.

    Raises EOFError where the file ends early, OSError where a chunk is damaged or larger than what is left of `data`.
    """
    from imagecodecs import Blosc2Error, blosc2_decode

    file.seek(data.start)
    left = data.length
    for _ in range(read_struct(file, _CHUNK_COUNT)[0]):
        unpacked, packed = read_struct(file, _CHUNK_LENGTHS)
        if unpacked > left or packed > unpacked + _BLOSC2_OVERHEAD_BYTES:
            raise OSError("a chunk is larger than it can be")
        left -= unpacked
        needed = data.length + unpacked + packed  # the values, this chunk, and what is unpacked
        allow_memory(needed, used=needed)
        chunk = file.read(packed)
        if len(chunk) < packed:
            raise EOFError
        if len(chunk) < _BLOSC2_HEADER.size or _BLOSC2_HEADER.unpack_from(chunk)[0] != unpacked:
            raise OSError("a chunk has another length than is said")
        try:
            values = blosc2_decode(chunk, numthreads=1)
        except (Blosc2Error, ValueError) as error:
            raise OSError("a chunk is damaged") from error
        assert isinstance(values, bytes)
        yield values


def read_struct(file: BinaryIO, layout: struct.Struct) -> tuple[Any, ...]:
    """Raises EOFError."""
    packed = file.read(layout.size)
    if len(packed) < layout.size:
        raise EOFError
    return layout.unpack(packed)


def read_hex(file: BinaryIO, start: int) -> Iterator[bytes]:
    """Yield the bytes of hexadecimal digits; other characters are skipped, as by Teem."""
    file.seek(start)
    half = b""
    while chunk := file.read(CHUNK_BYTES):
        digits = half + re.sub(rb"[^0-9a-fA-F]", b"", chunk)
        even = len(digits) & ~1
        half = digits[even:]
        yield bytes.fromhex(digits[:even].decode())


def parse_text(file: BinaryIO, data: VoxelData) -> Iterator[bytes]:
    """Yield numbers that white space or commas separate, as bytes of `data.dtype`. Raises BadInput."""
    file.seek(data.start)
    count, rest = 0, b""
    while count < data.count:
        chunk = file.read(CHUNK_BYTES)
        words = (rest + chunk).replace(b",", b" ").split()
        # The last word of a chunk may go on in the next one.
        rest = words.pop() if chunk and words and not chunk[-1:].isspace() else b""
        if len(rest) > MAX_NUMBER_CHARS:
            raise no_number_error(count)
        try:
            numbers = np.array(words[: data.count - count]).astype(np.float64)
        except ValueError:
            raise no_number_error(count) from None
        limits = np.iinfo(data.dtype) if data.dtype.kind in "iu" else np.finfo(data.dtype)
        if numbers.size and not (
            limits.min <= np.nanmin(numbers) <= np.nanmax(numbers) <= limits.max or data.dtype.kind == "f"
        ):
            raise no_number_error(count)
        count += len(numbers)
        yield numbers.astype(data.dtype).tobytes()
        if not chunk:
            break
    if count < data.count:
        raise ends_early_error(count, data.count, "number")


def no_number_error(count: int) -> BadInput:
    return BadInput(
        f"Number {count + 1} of the voxels, or one soon after it, is not a number of the stated type.",
        field="file",
        remedy="Save the volume again.",
    )


def ends_early_error(present: int, needed: int, unit: str = "byte") -> BadInput:
    """Return the refusal of a file that holds `present` of `needed` bytes."""
    missing = (
        f"{unit} {present + 1} of {needed} is missing" if present < needed else "its last bytes are missing"
    )
    return BadInput(
        f"The file ends early: {missing}.",
        field="file",
        remedy="Is it complete? Copy or save it again.",
    )


def unclear_header_error() -> BadInput:
    return BadInput(
        "The header does not say plainly where the voxels are and how many.",
        field="file",
        remedy="Open the volume in a viewer and save it again.",
    )
