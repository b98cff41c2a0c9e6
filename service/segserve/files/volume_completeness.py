"""Check that all voxels that a volume's header states are in the file, before ITK reads them.

ITK's readers leave the rest of their buffers as it was, or wait for ever, where a file ends early or its compressed
stream is damaged. `dicom_completeness.py` does the same for DICOM.
"""

import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from segserve.errors import BadInput
from segserve.files.volume_format import MAX_HEADER_BYTES

CHUNK_BYTES = 1 << 20
# Unpacked bytes after the voxels that are checked too. A stream of more is a bomb, or has its damage far behind.
MAX_EXCESS_BYTES = 64 << 20
# Window sizes by which zlib knows a format: gzip, and gzip or zlib.
GZIP, GZIP_OR_ZLIB = 31, 47
GZIP_MAGIC = b"\x1f\x8b"

# Bytes of a voxel by NIfTI's datatype (nifti1.h).
NIFTI_BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 32: 8, 64: 8, 128: 3, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8,
               1536: 16, 1792: 16, 2048: 32, 2304: 4}  # fmt: skip
METAIMAGE_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
                   "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}  # fmt: skip
NRRD_BYTES = {"char": 1, "int8": 1, "short": 2, "int16": 2, "int": 4, "int32": 4, "longlong": 8, "int64": 8,
              "float": 4, "double": 8}  # fmt: skip
NRRD_ENCODINGS = {"raw": "raw", "gz": "gzip", "gzip": "gzip", "txt": "text", "text": "text", "ascii": "text",
                  "hex": "hex"}  # fmt: skip
METAIMAGE_TRUE = ("T", "t", "1")


@dataclass(frozen=True)
class VoxelData:
    """`VoxelData` says where a file's voxels are.

    start: offset in the file at which they, or the compressed stream with them, begin.
    end: offset at which they end at the latest; None: the file's end.
    skip: bytes of the unpacked stream before the first voxel.
    length: bytes of all voxels.
    encoding: "raw", "deflate", "gzip", "text" (numbers) or "hex".
    values: number of values, of which text has one each.
    """

    start: int
    end: int | None
    skip: int
    length: int
    encoding: str
    values: int


def check_complete(path: Path, file_format: str, values: int) -> None:
    """Check that the file holds all voxels. Reads the whole file where it is compressed. Raises BadInput.

    file_format: a key of `volume_format.SUFFIX_BY_FORMAT`.
    values: number of values that ITK has found in the header.
    """
    with path.open("rb") as file:
        try:
            match file_format:
                case "nifti":
                    data = find_nifti_voxels(file.read(MAX_HEADER_BYTES), "raw")
                case "nifti.gz":
                    unpacked = read_unpacked(file, 0, None, GZIP)
                    data = find_nifti_voxels(next(unpacked, b""), "gzip")
                case "nrrd":
                    data = find_nrrd_voxels(file)
                case _:
                    data = find_metaimage_voxels(file)
        except (ValueError, KeyError, IndexError, struct.error, OverflowError, EOFError, zlib.error):
            raise unclear_header_error() from None
        if data.values != values:
            raise unclear_header_error()
        check_length(file, data)


def check_length(file: BinaryIO, data: VoxelData) -> None:
    """Raise BadInput if there are fewer bytes than the voxels have."""
    file_bytes = file.seek(0, 2)
    end = file_bytes if data.end is None else data.end
    if end > file_bytes:
        raise ends_early_error(file_bytes, end)
    needed = data.skip + data.length
    match data.encoding:
        case "raw":
            if end - data.start < needed:
                raise ends_early_error(max(0, end - data.start - data.skip), data.length)
        case "text":
            if (count := count_words(file, data.start, data.values)) < data.values:
                raise ends_early_error(count, data.values, "number")
        case "hex":
            if (count := count_hex_digits(file, data.start)) < 2 * needed:
                raise ends_early_error(count // 2, needed)
        case compressed:
            count = 0
            try:
                for part in read_unpacked(
                    file, data.start, end, GZIP if compressed == "gzip" else GZIP_OR_ZLIB
                ):
                    count += len(part)
                    if count > needed + MAX_EXCESS_BYTES:
                        return
            except EOFError:
                raise ends_early_error(max(0, count - data.skip), data.length) from None
            except zlib.error:
                raise BadInput(
                    f"The compressed voxels are damaged after byte {max(0, count - data.skip)} of {data.length}.",
                    field="file",
                    remedy="Save the volume again, or send it once more.",
                ) from None
            if count < needed:
                raise ends_early_error(max(0, count - data.skip), data.length)


def read_unpacked(file: BinaryIO, start: int, end: int | None, window: int) -> Iterator[bytes]:
    """Yield the unpacked parts of a compressed stream, each up to CHUNK_BYTES, and of further gzip members after it.

    Raises EOFError where the stream has no end, zlib.error where it is damaged.
    """
    file.seek(start)
    unpacker, packed = zlib.decompressobj(window), b""
    while True:
        if not packed:
            size = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - file.tell())
            if size <= 0 or not (packed := file.read(size)):
                raise EOFError
        part = unpacker.decompress(packed, CHUNK_BYTES)
        packed = unpacker.unconsumed_tail
        if part:
            yield part
        if unpacker.eof:
            packed = unpacker.unused_data
            packed += file.read(max(0, len(GZIP_MAGIC) - len(packed)))
            if window != GZIP or not packed.startswith(GZIP_MAGIC):
                return
            unpacker = zlib.decompressobj(window)


def count_words(file: BinaryIO, start: int, enough: int) -> int:
    """Return the number of words that white space separates, or `enough` if there are more."""
    file.seek(start)
    count, inside = 0, False
    while count < enough and (chunk := file.read(CHUNK_BYTES)):
        count += len(chunk.split()) - (inside and not chunk[:1].isspace())
        inside = not chunk[-1:].isspace()
    return count


def count_hex_digits(file: BinaryIO, start: int) -> int:
    file.seek(start)
    count = 0
    while chunk := file.read(CHUNK_BYTES):
        count += len(re.sub(rb"[^0-9a-fA-F]", b"", chunk))
    return count


def find_nifti_voxels(head: bytes, encoding: str) -> VoxelData:
    """Read a NIfTI-1 or NIfTI-2 header (nifti.nimh.nih.gov). Raises ValueError, KeyError, struct.error."""
    is_second = head[4:8] == b"n+2\0"
    size = 540 if is_second else 348
    order = "<" if struct.unpack_from("<i", head)[0] == size else ">"
    if struct.unpack_from(order + "i", head)[0] != size:
        raise ValueError
    if is_second:
        (datatype,) = struct.unpack_from(order + "h", head, 12)
        dimensions = struct.unpack_from(order + "8q", head, 16)
        (offset,) = struct.unpack_from(order + "q", head, 168)
    else:
        dimensions = struct.unpack_from(order + "8h", head, 40)
        (datatype,) = struct.unpack_from(order + "h", head, 70)
        (offset,) = struct.unpack_from(order + "f", head, 108)
    if not 1 <= dimensions[0] <= 7:
        raise ValueError
    values = math.prod(max(1, side) for side in dimensions[1 : dimensions[0] + 1])
    start = max(int(offset), size)
    return VoxelData(0, None, start, values * NIFTI_BYTES[datatype], encoding, values)


def find_nrrd_voxels(file: BinaryIO) -> VoxelData:
    """Read an NRRD header (teem.sourceforge.net/nrrd/format.html). Raises ValueError, KeyError."""
    file.seek(0)
    head = file.read(MAX_HEADER_BYTES)
    end = re.search(rb"\r?\n\r?\n", head)
    if end is None:
        raise ValueError
    fields = read_fields(head[: end.start()], b":")
    values = math.prod(int(side) for side in fields["sizes"].split())
    length = values * NRRD_BYTES[shorten_nrrd_type(fields["type"])]
    encoding = NRRD_ENCODINGS[fields["encoding"].lower()]
    file.seek(end.end())
    for _ in range(int(fields.get("lineskip", "0"))):
        if not file.readline(CHUNK_BYTES).endswith(b"\n"):
            raise ValueError
    start, skip = file.tell(), int(fields.get("byteskip", "0"))
    # -1: the voxels are the last bytes.
    return VoxelData(start, None, max(0, skip), length, encoding, values)


def shorten_nrrd_type(name: str) -> str:
    """Return the key of NRRD_BYTES for one of NRRD's names of a type: "unsigned short int", "ushort", "uint16_t"."""
    short = (
        re.sub(r"^(un)?signed ", "", name.lower()).removesuffix(" int").removesuffix("_t").replace(" ", "")
    )
    return short if short in NRRD_BYTES else short.removeprefix("u")


def find_metaimage_voxels(file: BinaryIO) -> VoxelData:
    """Read a MetaImage header (itk.org/Wiki/MetaIO/Documentation), whose last line says that the voxels follow.

    Raises ValueError, KeyError.
    """
    file.seek(0)
    head = file.read(MAX_HEADER_BYTES)
    end = re.search(rb"(?m)^\s*ElementDataFile\s*=[^\r\n]*\r?\n", head)
    if end is None:
        raise ValueError
    fields = read_fields(head[: end.start()], b"=")
    values = math.prod(int(side) for side in fields["dimsize"].split())
    values *= int(fields.get("elementnumberofchannels", "1"))
    length = (
        values * METAIMAGE_BYTES[fields["elementtype"].upper().removeprefix("MET_").removesuffix("_ARRAY")]
    )
    if fields.get("binarydata", "True")[:1] not in METAIMAGE_TRUE:
        raise ValueError  # ITK does not read text
    start = end.end()
    if (header_bytes := int(fields.get("headersize", "0"))) > 0:
        start = header_bytes
    if fields.get("compresseddata", "False")[:1] not in METAIMAGE_TRUE:
        return VoxelData(start, None, 0, length, "raw", values)
    # Without the length ITK takes no byte of the stream.
    packed_bytes = int(fields["compresseddatasize"])
    return VoxelData(start, start + packed_bytes, 0, length, "deflate", values)


def read_fields(header: bytes, separator: bytes) -> dict[str, str]:
    """Return the fields of a header by their names, in lower case and without spaces. Raises ValueError.

    A field that is stated twice is refused: libraries differ in which of them they take.
    """
    fields = dict[str, str]()
    for line in header.splitlines():
        name, found, value = line.partition(separator)
        key = name.decode("latin-1").strip().lower().replace(" ", "")
        if not found or line.startswith(b"#") or value.startswith(b"="):
            continue
        if key in fields:
            raise ValueError
        fields[key] = value.decode("latin-1").strip()
    return fields


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
