"""Encode a mask as a 1-bit PNG."""

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
    """Return a 1-bit greyscale PNG of the whole image, white where the mask is.

    The file is written here (W3C PNG specification, sections 5 and 11) because the mask can be packed to bits directly.
    Pillow would first unpack it to a byte a pixel, which takes ten times as long.
    """
    # The zeros are the compression, filter and interlace methods.
    header = struct.pack(">IIBBBBB", crop.size.width, crop.size.height, _BIT_DEPTH, _GREYSCALE, 0, 0, 0)
    data = zlib.compress(_pack_scanlines(crop).tobytes(), _COMPRESS_LEVEL)
    return _SIGNATURE + _make_chunk(b"IHDR", header) + _make_chunk(b"IDAT", data) + _make_chunk(b"IEND", b"")


def _pack_scanlines(crop: Crop) -> UInt8:
    """Return the image's rows [H, 1 + ceil(W / 8)]: the filter's number, then eight pixels a byte."""
    lines = np.full((crop.size.height, 1 + (crop.size.width + 7) // 8), _NO_FILTER, np.uint8)
    # Pack only the crop, padded to the byte that its first column falls into.
    bits = np.packbits(np.pad(crop.pixels, ((0, 0), (crop.x % 8, 0))), axis=1)
    left = 1 + crop.x // 8
    lines[crop.y : crop.y + bits.shape[0], left : left + bits.shape[1]] = bits
    return lines


def _make_chunk(chunk_type: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + chunk_type + data + struct.pack(">I", zlib.crc32(chunk_type + data))
