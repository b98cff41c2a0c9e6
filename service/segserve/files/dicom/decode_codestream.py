"""Decode one compressed frame by imagecodecs: JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE (PS3.5, A.4)."""

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from segserve.files.dicom.image_file import PixelFormat
from segserve.images.sandboxed.jpeg_ls import decode_jpeg_ls
from segserve.images.sandboxed.lossless_jpeg import decode_lossless_jpeg

UID = "1.2.840.10008.1.2."
JPEG_BASELINE, JPEG_EXTENDED = UID + "4.50", UID + "4.51"
JPEG_LOSSLESS = {UID + "4.57", UID + "4.70"}
JPEG_LS = {UID + "4.80", UID + "4.81"}
JPEG_2000 = {UID + "4.90", UID + "4.91"}
HTJ2K = {UID + "4.201", UID + "4.202", UID + "4.203"}
RLE = UID + "5"
SUPPORTED = {JPEG_BASELINE, JPEG_EXTENDED, *JPEG_LOSSLESS, *JPEG_LS, *JPEG_2000, *HTJ2K, RLE}

START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: SOC, SIZ
# Some frames are whole JP2 files, whose boxes come before the codestream.
MAX_JP2_HEADER_BYTES = 1 << 16
# Markers without a length; SOF markers, which hold the size (ISO 10918-1, 14495-1).
BARE_MARKERS = {0x01, *range(0xD0, 0xDA)}
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


class WrongCodestream(Exception):
    """The frame is damaged, or not what the header says. Its text is a sentence."""


def decode_codestream(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    """Return a frame: stored values [rows, columns], or RGB [rows, columns, 3]. Raises WrongCodestream."""
    syntax = pixels.transfer_syntax
    if syntax == RLE:
        return decode_rle(data, pixels)
    width, height, samples, precision = read_size(data, syntax)
    if (width, height) != (pixels.columns, pixels.rows) or samples != pixels.samples:
        raise WrongCodestream(
            f"The frame is {width} x {height} with {samples} samples; the header says {pixels.columns} x"
            f" {pixels.rows} with {pixels.samples}."
        )
    try:
        values = decode(data, pixels, precision)
    except MemoryError:
        raise
    except Exception:  # each codec has errors of its own
        raise WrongCodestream("The frame is damaged.") from None
    expected = (pixels.rows, pixels.columns) + ((3,) if pixels.samples == 3 else ())
    if values.shape != expected:
        raise WrongCodestream("The frame is damaged.")
    return values


def decode(data: bytes, pixels: PixelFormat, precision: int) -> NDArray[Any]:
    syntax = pixels.transfer_syntax
    if syntax in (JPEG_BASELINE, JPEG_EXTENDED):
        if pixels.samples == 3:
            is_rgb = jpeg_holds_rgb(data, pixels.photometric)
            return imagecodecs.jpeg8_decode(
                data, colorspace="RGB" if is_rgb else "YCBCR", outcolorspace="RGB"
            )
        return correct_sign(imagecodecs.jpeg8_decode(data), precision, pixels)
    if syntax in JPEG_LOSSLESS:
        values = decode_lossless_jpeg(data, pixels.rows * pixels.columns * pixels.samples)
    elif syntax in JPEG_LS:
        values = decode_jpeg_ls(data)
    else:
        values = imagecodecs.jpeg2k_decode(data) if syntax in JPEG_2000 else imagecodecs.htj2k_decode(data)
    if pixels.samples == 3:
        if pixels.photometric in ("YBR_FULL", "YBR_FULL_422") and not uses_colour_transform(data, syntax):
            return ycbcr_to_rgb(values)
        return values
    return correct_sign(values, precision, pixels)


def decode_rle(data: bytes, pixels: PixelFormat) -> NDArray[Any]:
    """Raises WrongCodestream."""
    plane_bytes, planes = pixels.rows * pixels.columns, pixels.samples * (pixels.bits_allocated // 8)
    if len(data) < 64:
        raise WrongCodestream("The frame ends early.")
    count, *offsets = struct.unpack_from("<16I", data)
    ends = [*offsets[1:count], len(data)]
    starts = offsets[:count]
    if count != planes or not 1 <= count <= 15 or starts != sorted(starts) or starts[0] < 64:
        raise WrongCodestream(f"The frame has {count} segments; the header needs {planes}.")
    out = np.empty((planes, plane_bytes), np.uint8)
    for plane, (start, end) in enumerate(zip(starts, ends, strict=True)):
        try:
            segment = imagecodecs.packbits_decode(data[start:end])
        except MemoryError:
            raise
        except Exception:
            raise WrongCodestream("The frame is damaged.") from None
        if len(segment) < plane_bytes:
            raise WrongCodestream(
                f"The frame ends early: {len(segment)} of {plane_bytes} bytes of a segment."
            )
        out[plane] = np.frombuffer(segment, np.uint8, plane_bytes)
    # The most significant byte of a sample comes first.
    width = pixels.bits_allocated // 8
    values = np.ascontiguousarray(out.reshape(pixels.samples, width, plane_bytes).transpose(0, 2, 1))
    stored = values.view(f">u{width}")[:, :, 0].astype(f"<u{width}")
    if pixels.samples == 3:
        colours = np.ascontiguousarray(stored.T).reshape(pixels.rows, pixels.columns, 3)
        return ycbcr_to_rgb(colours) if pixels.photometric in ("YBR_FULL", "YBR_FULL_422") else colours
    return correct_sign(stored.reshape(pixels.rows, pixels.columns), pixels.bits_stored, pixels)


def correct_sign(values: NDArray[Any], precision: int, pixels: PixelFormat) -> NDArray[Any]:
    """Return values with the sign that the header states: a codestream may have lost it, or claim another."""
    container = 8 if precision <= 8 else 16 if precision <= 16 else 32
    bits = values.astype(f"u{container // 8}", copy=True)
    shift = container - precision
    kind = "i" if pixels.is_signed else "u"
    signed = np.left_shift(bits, shift).view(f"{kind}{container // 8}")
    shifted: NDArray[Any] = np.right_shift(signed, shift)
    return shifted


def ycbcr_to_rgb(values: NDArray[Any]) -> NDArray[Any]:
    """Return RGB of YBR_FULL (PS3.3, C.7.6.3.1.2)."""
    top = np.iinfo(values.dtype).max
    ycc = values.astype(np.float32)
    luma, blue, red = ycc[..., 0], ycc[..., 1] - (top + 1) / 2, ycc[..., 2] - (top + 1) / 2
    rgb = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], -1)
    converted: NDArray[Any] = np.clip(np.rint(rgb), 0, top).astype(values.dtype)
    return converted


def read_size(data: bytes, syntax: str) -> tuple[int, int, int, int]:
    """Return (width, height, samples, bits a sample) of a codestream.

    Raises WrongCodestream.
    """
    try:
        at = data.find(START_OF_CODESTREAM, 0, MAX_JP2_HEADER_BYTES)
        if syntax in JPEG_2000 | HTJ2K:
            if at < 0:
                raise WrongCodestream("The frame is no JPEG 2000.")
            width, height, left, top = struct.unpack_from(">4I", data, at + 8)
            samples, depth = struct.unpack_from(">HB", data, at + 40)
            return width - left, height - top, samples, (depth & 0x7F) + 1
        for marker, start, _ in jpeg_segments(data):
            if marker in FRAME_MARKERS:
                depth, height, width, samples = struct.unpack_from(">BHHB", data, start)
                return width, height, samples, depth
    except struct.error:
        pass
    raise WrongCodestream("The frame ends within its header.")


def jpeg_segments(data: bytes) -> list[tuple[int, int, int]]:
    """Return (marker, start and end of its parameters) of each segment up to the first scan. Raises struct.error."""
    segments, at = [], 2
    if data[:2] != b"\xff\xd8":
        raise WrongCodestream("The frame is no JPEG.")
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF or marker in BARE_MARKERS or marker == 0:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        segments.append((marker, at + 4, at + 2 + length))
        if marker == 0xDA:
            break
        at += 2 + length
    return segments


def jpeg_holds_rgb(data: bytes, photometric: str) -> bool:
    """Return whether a JPEG's three components are RGB: by its markers, and where it has none by the header."""
    for marker, start, end in jpeg_segments(data):
        if marker == 0xEE and data[start : start + 5] == b"Adobe" and end >= start + 12:
            return data[start + 11] == 0
        if marker == 0xE0 and data[start : start + 4] == b"JFIF":
            return False
        if marker in FRAME_MARKERS:
            names = data[start + 6 : start + 15 : 3]
            if names in (b"RGB", b"rgb"):
                return True
    return photometric == "RGB"


def uses_colour_transform(data: bytes, syntax: str) -> bool:
    """Return whether a JPEG 2000 codestream transforms its colours itself: then it is decoded as RGB."""
    if syntax not in JPEG_2000 | HTJ2K:
        return False
    start = max(0, data.find(START_OF_CODESTREAM, 0, MAX_JP2_HEADER_BYTES))
    at = data.find(b"\xff\x52", start, start + 4096)  # COD
    return at >= 0 and len(data) > at + 8 and data[at + 8] == 1
