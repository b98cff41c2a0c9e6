"""numpy arrays as TIFF files, so that pictures and stacks can be uploaded without an image library.

Written as TIFF 6.0 says, and as BigTIFF where 4 GB are not enough: strips compressed by zlib ("Adobe Deflate", 8), one
directory a page. The same array is always the same bytes, so that the service gives it the same id.
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

# zlib's fastest: pictures shrink by a half, and others stay as they are.
_LEVEL = 1
_STRIP_BYTES = 1 << 20
# Above this many bytes of pixels offsets of 32 bits may not be enough.
_MAX_CLASSIC_BYTES = 3 << 30
# How TIFF calls kinds of samples (SampleFormat, 339).
_SAMPLE_FORMATS = {"u": 1, "f": 3}
_SHORT, _LONG, _LONG8 = 3, 4, 16


def to_samples(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in a type that the service reads: uint8, uint16 or float32.

    bool becomes 0 and 255. Integers stay integers where they fit into uint16. Others become float32.

    Raises ValueError for complex numbers and objects.
    """
    array = np.asarray(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype in (np.uint8, np.uint16, np.float32):
        return array
    if array.dtype.kind in "ui":
        small = array.size > 0 and array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max
        return array.astype(np.uint16 if small else np.float32)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    raise ValueError(f"an array of {array.dtype} is no picture: send integers or floats")


def write_picture(array: NDArray[Any], file: BinaryIO) -> None:
    """Write a picture, [height, width] or [height, width, 3]; a fourth channel, alpha, is left out.

    Raises ValueError for other shapes.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[2] == 4:
        array = array[..., :3]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise ValueError(
            f"an array of shape {array.shape} is no picture: send [height, width] or [height, width, 3]"
        )
    _write_pages([to_samples(array)], array.nbytes, file)


def write_stack(array: NDArray[Any], file: BinaryIO) -> None:
    """Write frames or slices, [n, height, width] or [n, height, width, 3], as the pages of one file.

    Raises ValueError for other shapes.
    """
    array = np.asarray(array)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3) or 0 in array.shape:
        raise ValueError(
            f"an array of shape {array.shape} is no stack: send [n, height, width] or [n, height, width, 3]"
        )
    _write_pages(to_samples(array), array.nbytes, file)


def _write_pages(pages: Any, total_bytes: int, file: BinaryIO) -> None:
    big = total_bytes > _MAX_CLASSIC_BYTES
    order = "<" if sys.byteorder == "little" else ">"
    magic = b"II" if order == "<" else b"MM"
    if big:
        file.write(magic + struct.pack(order + "HHHQ", 43, 8, 0, 16))
    else:
        file.write(magic + struct.pack(order + "HI", 42, 8))
    link = file.tell() - (8 if big else 4)  # where the offset of the next directory is written
    for page in pages:
        offsets, counts, rows = _write_strips(np.ascontiguousarray(page), file)
        link = _write_directory(page, offsets, counts, rows, link, order, big, file)


def _write_strips(page: NDArray[Any], file: BinaryIO) -> tuple[list[int], list[int], int]:
    rows = max(1, _STRIP_BYTES // max(1, page[0].nbytes))
    offsets, counts = [], []
    for begin in range(0, page.shape[0], rows):
        strip = zlib.compress(page[begin : begin + rows].tobytes(), _LEVEL)
        offsets.append(file.tell())
        counts.append(len(strip))
        file.write(strip)
    return offsets, counts, rows


def _write_directory(
    page: NDArray[Any],
    offsets: list[int],
    counts: list[int],
    rows: int,
    link: int,
    order: str,
    big: bool,
    file: BinaryIO,
) -> int:
    """Write a page's directory and the link to it. Returns where the link to the next one goes."""
    samples = 1 if page.ndim == 2 else page.shape[2]
    wide = _LONG8 if big else _LONG
    entries: list[tuple[int, int, list[int]]] = [
        (256, _LONG, [page.shape[1]]),  # ImageWidth
        (257, _LONG, [page.shape[0]]),  # ImageLength
        (258, _SHORT, [8 * page.dtype.itemsize] * samples),  # BitsPerSample
        (259, _SHORT, [8]),  # Compression: Adobe Deflate
        (262, _SHORT, [1 if samples == 1 else 2]),  # PhotometricInterpretation: BlackIsZero, RGB
        (273, wide, offsets),  # StripOffsets
        (277, _SHORT, [samples]),  # SamplesPerPixel
        (278, _LONG, [rows]),  # RowsPerStrip
        (279, wide, counts),  # StripByteCounts
        (284, _SHORT, [1]),  # PlanarConfiguration: RGBRGB
        (339, _SHORT, [_SAMPLE_FORMATS[page.dtype.kind]] * samples),  # SampleFormat
    ]
    room = 8 if big else 4
    packed = []
    for tag, kind, values in entries:
        code = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}[kind]
        data = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(data) > room:
            file.write(b"\0" * (file.tell() % 2))
            place = file.tell()
            file.write(data)
            data = struct.pack(order + ("Q" if big else "I"), place)
        head = struct.pack(order + ("HHQ" if big else "HHI"), tag, kind, len(values))
        packed.append(head + data.ljust(room, b"\0"))
    file.write(b"\0" * (file.tell() % 2))
    directory = file.tell()
    file.write(struct.pack(order + ("Q" if big else "H"), len(packed)) + b"".join(packed))
    next_link = file.tell()
    file.write(b"\0" * room)
    file.seek(link)
    file.write(struct.pack(order + ("Q" if big else "I"), directory))
    file.seek(0, 2)
    return next_link
