"""Read BMP files whose colours lie in bit fields that Pillow does not know: any masks of 16 or 32 bits."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from segserve.images.image_source import (
    DecodingMemory,
    ImageSource,
    RawPixels,
    check_page,
    check_size,
    damaged_file_error,
)
from segserve.types import Size, UInt8

# Compressions of the header: colours in bit fields, with alpha too.
_BITFIELDS, _ALPHA_BITFIELDS = 3, 6
_FILE_HEADER_BYTES = 14
BLOCK_ROWS = 256


@dataclass(frozen=True)
class BitfieldsHeader:
    """`BitfieldsHeader` says where the colours of a pixel lie. masks: of red, green and blue."""

    begins: int
    size: Size
    is_top_down: bool
    bits: int
    masks: tuple[int, int, int]

    @property
    def stride(self) -> int:
        """Return the bytes of a row, padded to 4."""
        return (self.size.width * self.bits + 31) // 32 * 4


def open_bitfields(stream: BinaryIO, page: int, max_pixels: int) -> ImageSource | None:
    """Open a BMP with bit fields; None for any other. Raises BadInput, TooLarge."""
    header = _read_header(stream)
    if header is None:
        return None
    check_page(page, 1)
    check_size(header.size.width, header.size.height, max_pixels)
    block = min(BLOCK_ROWS, header.size.height) * (header.stride + 16 * header.size.width)
    pixels = header.size.height * header.size.width
    memory = DecodingMemory(3, np.dtype(np.uint8), 3 * pixels + block, BLOCK_ROWS, block)
    return ImageSource(header.size, 1, memory, lambda: RawPixels(_decode(stream, header), False, 1), None)


def _read_header(stream: BinaryIO) -> BitfieldsHeader | None:
    stream.seek(0)
    head = stream.read(_FILE_HEADER_BYTES + 52)
    if len(head) < _FILE_HEADER_BYTES + 52:
        return None
    begins, header_bytes = struct.unpack_from("<10xII", head)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", head, 18)
    if header_bytes < 40 or compression not in (_BITFIELDS, _ALPHA_BITFIELDS) or bits not in (16, 32):
        return None
    red, green, blue = struct.unpack_from("<3I", head, _FILE_HEADER_BYTES + 40)
    if not all(_is_run(mask) and mask < 1 << bits for mask in (red, green, blue)):
        raise damaged_file_error("BMP")
    return BitfieldsHeader(begins, Size(abs(height), max(0, width)), height < 0, bits, (red, green, blue))


def _is_run(mask: int) -> bool:
    """Return whether the mask's bits stand side by side."""
    low = mask & -mask
    return mask > 0 and (mask + low) & mask == 0


def _decode(stream: BinaryIO, header: BitfieldsHeader) -> UInt8:
    """Return RGB [H, W, 3]: each field scaled to 0..255 and rounded."""
    height, width = header.size.height, header.size.width
    rgb = np.empty((height, width, 3), np.uint8)
    target = rgb if header.is_top_down else rgb[::-1]
    stream.seek(header.begins)
    for top in range(0, height, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, height - top)
        data = stream.read(rows * header.stride)
        if len(data) < rows * header.stride:
            raise damaged_file_error("BMP")
        stored = np.frombuffer(data, f"<u{header.bits // 8}").reshape(rows, -1)[:, :width]
        for channel, mask in enumerate(header.masks):
            shift = (mask & -mask).bit_length() - 1
            most = mask >> shift
            field = (stored & stored.dtype.type(mask)) >> stored.dtype.type(shift)
            target[top : top + rows, :, channel] = np.rint(field * (255 / most))
    return rgb
