"""A mask as an image file."""

import struct
import zlib

import numpy as np

from segserve.types import Crop, UInt8

# At one bit a pixel a mask is mostly equal bytes, which the quickest level already shrinks to about one per
# cent. The default level saves a few kilobytes more and takes four times as long.
_COMPRESS_LEVEL = 1

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BIT_DEPTH = 1
_GREYSCALE = 0
_NO_FILTER = 0


def encode(crop: Crop) -> bytes:
    """A 1-bit greyscale PNG of the whole image, white where the mask is.

    Written here (W3C PNG specification, sections 5 and 11) because the bits are at hand as they go into the
    file: Pillow would unpack them to a byte a pixel first, which takes ten times as long.
    """
    # Zeros: the compression, filter and interlace methods.
    header = struct.pack(">IIBBBBB", crop.size.width, crop.size.height, _BIT_DEPTH, _GREYSCALE, 0, 0, 0)
    data = zlib.compress(_scanlines(crop).tobytes(), _COMPRESS_LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _scanlines(crop: Crop) -> UInt8:
    """The image's rows, [H, 1 + ceil(W / 8)]: the filter's number, then eight pixels a byte."""
    lines = np.full((crop.size.height, 1 + (crop.size.width + 7) // 8), _NO_FILTER, np.uint8)
    # The crop is packed by itself, from the byte that its first column falls into.
    bits = np.packbits(np.pad(crop.pixels, ((0, 0), (crop.x % 8, 0))), axis=1)
    left = 1 + crop.x // 8
    lines[crop.y : crop.y + bits.shape[0], left : left + bits.shape[1]] = bits
    return lines


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
