"""Read the flattened composite of a Photoshop file (Adobe's file format specification): PSD and PSB."""

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import (
    ImageSource,
    check_page,
    check_size,
    damaged_file_error,
    unsupported_error,
)
from segserve.images.sandboxed.whole_image import make_source, read_exactly
from segserve.types import Size

_BITMAP, _GREY, _INDEXED, _RGB, _CMYK, _DUOTONE = 0, 1, 2, 3, 4, 8
_MODE_NAMES = {7: "multichannel", 9: "Lab"}
# Channels of each colour mode; more of them are alpha and masks.
_COLOURS = {_BITMAP: 1, _GREY: 1, _INDEXED: 1, _RGB: 3, _CMYK: 4, _DUOTONE: 1}
_RAW, _RUN_LENGTHS = 0, 1
MAX_CHANNELS = 56


@dataclass(frozen=True)
class PsdHeader:
    """`PsdHeader` is the file header, with the palette [256, 3] of an indexed image.

    begins: offset of the composite.
    """

    is_large: bool
    channels: int
    size: Size
    bits: int
    mode: int
    palette: NDArray[np.uint8]
    begins: int


def open_psd(stream: BinaryIO, page: int, max_pixels: int) -> ImageSource:
    """Open the composite of a Photoshop file, without its alpha."""
    header = _read_header(stream)
    check_page(page, 1)
    check_size(header.size.width, header.size.height, max_pixels)
    dtype = {1: np.uint8, 8: np.uint8, 16: np.uint16, 32: np.float32}[header.bits]
    file_bytes = stream.seek(0, 2)
    return make_source(
        "PSD",
        header.size,
        3,
        dtype,
        lambda: (_to_rgb(_read_planes(stream, header, file_bytes), header), False),
        bytes_per_pixel=4 * _COLOURS[header.mode] * np.dtype(dtype).itemsize,
        fixed_bytes=file_bytes,
    )


def _read_header(stream: BinaryIO) -> PsdHeader:
    head = read_exactly(stream, 26, "PSD")
    version, channels, height, width, bits, mode = struct.unpack(">4xH6xHIIHH", head)
    if version not in (1, 2):
        raise damaged_file_error("PSD")
    if mode not in _COLOURS:
        raise unsupported_error(f"A PSD in {_MODE_NAMES.get(mode, 'an unknown colour')} mode")
    if bits not in (1, 8, 16, 32) or (bits == 1) != (mode == _BITMAP) or (mode == _INDEXED and bits != 8):
        raise damaged_file_error("PSD")
    if not _COLOURS[mode] <= channels <= MAX_CHANNELS:
        raise damaged_file_error("PSD")
    (palette_bytes,) = struct.unpack(">I", read_exactly(stream, 4, "PSD"))
    palette = np.zeros((256, 3), np.uint8)
    if mode == _INDEXED:
        if palette_bytes != 768:
            raise damaged_file_error("PSD")
        palette = np.frombuffer(read_exactly(stream, 768, "PSD"), np.uint8).reshape(3, 256).T
    else:
        stream.seek(palette_bytes, 1)
    (resource_bytes,) = struct.unpack(">I", read_exactly(stream, 4, "PSD"))
    stream.seek(resource_bytes, 1)
    layers = read_exactly(stream, 8 if version == 2 else 4, "PSD")
    begins = stream.tell() + int.from_bytes(layers, "big")
    return PsdHeader(version == 2, channels, Size(height, width), bits, mode, palette, begins)


def _read_planes(stream: BinaryIO, header: PsdHeader, file_bytes: int) -> NDArray[Any]:
    """Return the colours as planes [C, H, W] as stored, in the machine's byte order."""
    height, width, colours = header.size.height, header.size.width, _COLOURS[header.mode]
    row_bytes = -(-width * header.bits // 8)
    stream.seek(header.begins)
    (compression,) = struct.unpack(">H", read_exactly(stream, 2, "PSD"))
    if compression == _RAW:
        packed = read_exactly(stream, colours * height * row_bytes, "PSD")
    elif compression == _RUN_LENGTHS:
        packed = _unpack_run_lengths(stream, header, row_bytes, file_bytes)
    else:
        raise unsupported_error("A PSD whose composite is compressed by zip")
    if header.bits == 1:
        rows = np.frombuffer(packed, np.uint8).reshape(1, height, row_bytes)
        return np.unpackbits(rows, axis=2, count=width)
    dtype = np.dtype({8: "u1", 16: ">u2", 32: ">f4"}[header.bits])
    planes = np.frombuffer(packed, dtype).reshape(colours, height, width)
    return planes.astype(dtype.newbyteorder("="), copy=False)


def _unpack_run_lengths(stream: BinaryIO, header: PsdHeader, row_bytes: int, file_bytes: int) -> bytes:
    """Return the rows of the colours' planes. The lengths of all channels' rows come first."""
    item = 4 if header.is_large else 2
    rows = _COLOURS[header.mode] * header.size.height
    table = read_exactly(stream, item * header.channels * header.size.height, "PSD")
    lengths = [int(length) for length in np.frombuffer(table, f">u{item}")[:rows]]
    if sum(lengths) > file_bytes:
        raise damaged_file_error("PSD")
    unpacked = bytearray(rows * row_bytes)
    for row, length in enumerate(lengths):
        data = imagecodecs.packbits_decode(read_exactly(stream, length, "PSD"), out=row_bytes)
        if len(data) != row_bytes:
            raise damaged_file_error("PSD")
        unpacked[row * row_bytes : (row + 1) * row_bytes] = data
    return bytes(unpacked)


def _to_rgb(planes: NDArray[Any], header: PsdHeader) -> NDArray[Any]:
    """Return [H, W, 1 or 3] of planes [C, H, W]."""
    if header.mode == _BITMAP:
        black: NDArray[np.uint8] = (1 - planes[0]) * np.uint8(255)  # 1 is black
        return black[:, :, np.newaxis]
    if header.mode == _INDEXED:
        colours: NDArray[np.uint8] = header.palette[planes[0]]
        return colours
    values = np.moveaxis(planes, 0, -1)
    if header.mode != _CMYK:
        return values
    # Photoshop stores inks inverted: 0 is all of an ink.
    full = float(np.iinfo(values.dtype).max) if values.dtype.kind == "u" else 1.0
    rgb = np.empty((*values.shape[:2], 3), values.dtype)
    for row, inks in zip(rgb, values, strict=True):  # row by row, because float64 takes memory
        product = inks[:, :3].astype(np.float64) * inks[:, 3:] / full
        row[:] = np.rint(product) if values.dtype.kind == "u" else product
    return rgb
