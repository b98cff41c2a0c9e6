"""Read JPEG XL by libjxl, in imagecodecs."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import ImageSource, check_page, check_size, damaged_file_error
from segserve.images.sandboxed.whole_image import make_source
from segserve.types import Size

_CODESTREAM = b"\xff\x0a"
# Bytes of the codestream that hold its size, with room to spare.
_HEADER_BYTES = 64
# libjxl decodes to float32, with copies of groups and of frames before it.
BYTES_PER_PIXEL = 40
# Width over height, as the header abbreviates it (ISO/IEC 18181-1, SizeHeader).
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def open_jpeg_xl(stream: BinaryIO, page: int, max_pixels: int) -> ImageSource:
    """Open a JPEG XL file, as a bare codestream or in a container. The decoder applies the orientation."""
    codestream = b"".join(_read_codestream(stream))[:_HEADER_BYTES]
    size, turned = _read_size(codestream)
    check_page(page, 1)
    check_size(size.width, size.height, max_pixels)
    file_bytes = stream.seek(0, 2)

    def decode() -> tuple[NDArray[Any], bool]:
        import imagecodecs

        stream.seek(0)
        values: NDArray[Any] = imagecodecs.jpegxl_decode(stream.read(), index=0, numthreads=1)
        return values, values.ndim == 3 and values.shape[2] in (2, 4)

    return make_source(
        "JPEG XL",
        Size(size.width, size.height) if turned else size,
        5,
        np.float32,
        decode,
        bytes_per_pixel=BYTES_PER_PIXEL,
        fixed_bytes=2 * file_bytes,
    )


def _read_codestream(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the beginnings of the parts of the codestream, which may lie in several boxes of a container."""
    stream.seek(0)
    if stream.read(2) == _CODESTREAM:
        stream.seek(0)
        yield stream.read(_HEADER_BYTES)
        return
    at = found = 0
    for _ in range(1 << 12):
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return
        length, kind, begins = int.from_bytes(head[:4], "big"), head[4:8], 8
        if length == 1:
            length, begins = int.from_bytes(head[8:16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            begins += 4 * (kind == b"jxlp")  # the part's number
            stream.seek(at + begins)
            room = _HEADER_BYTES if not length else max(0, min(_HEADER_BYTES, length - begins))
            part = stream.read(room)
            yield part
            found += len(part)
        if found >= _HEADER_BYTES or length < 8:
            return
        at += length


class _Bits:
    """`_Bits` reads numbers of some bits, the lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, count: int) -> int:
        if count > self._left:
            raise damaged_file_error("JPEG XL")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def read_one_of(self, *choices: int) -> int:
        """Return a number with one of four counts of bits, which two bits choose."""
        return self.read(choices[self.read(2)])


def _read_size(codestream: bytes) -> tuple[Size, bool]:
    """Return the size as stored, and whether rows and columns are swapped (ISO/IEC 18181-1, headers)."""
    if not codestream.startswith(_CODESTREAM):
        raise damaged_file_error("JPEG XL")
    bits = _Bits(codestream[2:])
    small = bool(bits.read(1))

    def side() -> int:
        return 8 * (1 + bits.read(5)) if small else 1 + bits.read_one_of(9, 13, 18, 30)

    height = side()
    ratio = bits.read(3)
    width = side() if not ratio else height * _RATIOS[ratio][0] // _RATIOS[ratio][1]
    orientation = 1
    if not bits.read(1) and bits.read(1):  # not all defaults, and extra fields
        orientation = 1 + bits.read(3)
    return Size(height, width), orientation >= 5
