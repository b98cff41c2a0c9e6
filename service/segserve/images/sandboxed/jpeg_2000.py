"""Read JPEG 2000, as JP2 or as a bare codestream, by OpenJPEG: in Pillow up to 8 bits, in imagecodecs above.

Pillow knows palettes, subsampled colour and CMYK; imagecodecs keeps the bits of deeper samples.
"""

import struct
import sys
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import (
    ImageSource,
    check_page,
    check_size,
    damaged_file_error,
    unsupported_error,
    wrap_codec_errors,
)
from segserve.images.sandboxed.whole_image import make_source, read_exactly
from segserve.types import Size

_CODESTREAM = b"\xff\x4f\xff\x51"
MAX_COMPONENTS = 16
# OpenJPEG takes 4 bytes for a sample while it decodes, twice where tiles are joined.
BYTES_PER_SAMPLE = 12
MAX_BOXES = 1 << 12


@dataclass(frozen=True)
class Codestream:
    """`Codestream` is the SIZ segment of a codestream (ITU-T T.800, A.5.1).

    components: (bits, is signed, horizontal step, vertical step) of each.
    """

    size: Size
    components: tuple[tuple[int, bool, int, int], ...]

    @property
    def bits(self) -> int:
        return max(bits for bits, *_ in self.components)


def open_jpeg_2000(stream: BinaryIO, page: int, max_pixels: int) -> ImageSource:
    """Open a JPEG 2000 file."""
    header = read_codestream_header(stream)
    check_page(page, 1)
    check_size(header.size.width, header.size.height, max_pixels)
    channels = max(3, len(header.components))  # a palette becomes RGB
    file_bytes = stream.seek(0, 2)
    is_deep = header.bits > 8 or any(signed for _, signed, *_ in header.components) or channels > 4
    if is_deep and any((dx, dy) != (1, 1) for *_, dx, dy in header.components):
        raise unsupported_error("JPEG 2000 of more than 8 bits whose components differ in size")
    if header.bits > 16:
        raise unsupported_error("JPEG 2000 of more than 16 bits")
    dtype: np.dtype[Any] = np.dtype(np.uint16 if is_deep else np.uint8)
    if any(signed for _, signed, *_ in header.components):
        dtype = np.dtype(np.int16)

    def decode() -> tuple[NDArray[Any], bool]:
        stream.seek(0)
        return _decode_deep(stream.read(), channels) if is_deep else _decode_8_bit(stream)

    return make_source(
        "JPEG 2000",
        header.size,
        channels,
        dtype,
        decode,
        bytes_per_pixel=BYTES_PER_SAMPLE * channels,
        fixed_bytes=2 * file_bytes,
    )


def read_codestream_header(stream: BinaryIO) -> Codestream:
    """Return the SIZ segment of a file or a bare codestream. Raises BadInput, UnsupportedFormat."""
    stream.seek(_find_codestream(stream))
    return parse_codestream_header(stream)


def parse_codestream_header(stream: BinaryIO) -> Codestream:
    """Return the SIZ segment of a codestream that begins here."""
    head = read_exactly(stream, 42, "JPEG 2000")
    if not head.startswith(_CODESTREAM):
        raise damaged_file_error("JPEG 2000")
    width, height, left, top = struct.unpack_from(">4I", head, 8)
    (count,) = struct.unpack_from(">H", head, 40)
    if not 1 <= count <= MAX_COMPONENTS:
        raise unsupported_error(f"JPEG 2000 of {count} components")
    described = read_exactly(stream, 3 * count, "JPEG 2000")
    components = tuple(
        ((depth & 0x7F) + 1, bool(depth & 0x80), dx, dy)
        for depth, dx, dy in struct.iter_unpack("BBB", described)
    )
    if any(min(dx, dy) < 1 for *_, dx, dy in components):
        raise damaged_file_error("JPEG 2000")
    return Codestream(Size(max(0, height - top), max(0, width - left)), components)


def _find_codestream(stream: BinaryIO) -> int:
    """Return the offset of the codestream: 0, or that of the content of the box "jp2c" (ITU-T T.800, annex I)."""
    stream.seek(0)
    if stream.read(4) == _CODESTREAM:
        return 0
    at = 0
    for _ in range(MAX_BOXES):
        stream.seek(at)
        length, kind = struct.unpack(">I4s", read_exactly(stream, 8, "JPEG 2000"))
        head = 8
        if length == 1:
            (length,), head = struct.unpack(">Q", read_exactly(stream, 8, "JPEG 2000")), 16
        if kind == b"jp2c":
            return at + head
        if not head <= length <= sys.maxsize - at:  # 0: the last box
            break
        at += length
    raise damaged_file_error("JPEG 2000")


def _decode_8_bit(stream: BinaryIO) -> tuple[NDArray[Any], bool]:
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

    image: Any = Jpeg2KImageFile(BytesIO(stream.read()))
    image.load()
    image.info.pop("transparency", None)
    if image.mode in ("P", "PA", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    return np.asarray(image), image.mode in ("LA", "RGBA")


def _decode_deep(data: bytes, channels: int) -> tuple[NDArray[Any], bool]:
    import imagecodecs

    with wrap_codec_errors("JPEG 2000"):
        values: NDArray[Any] = imagecodecs.jpeg2k_decode(data, numthreads=1)
    return values, values.ndim == 3 and channels in (2, 4) and values.shape[2] == channels
