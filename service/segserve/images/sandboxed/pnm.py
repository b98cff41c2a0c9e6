"""Read PNM: PBM, PGM, PPM, PAM and PFM (netpbm's specifications), of 1 to 16 bits and float32."""

import math
import re
from dataclasses import dataclass
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
from segserve.images.sandboxed.whole_image import make_source
from segserve.types import Size

# With the comments that editors write.
MAX_HEADER_BYTES = 1 << 16
MAX_CHANNELS = 4
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([^\s#]+)")
_COMMENT = re.compile(rb"#[^\r\n]*")


@dataclass(frozen=True)
class PnmHeader:
    """`PnmHeader` is the header of a file.

    number: "P1" to "P7", "PF" or "Pf".
    max_value: what is white; 1 for bits.
    is_big_endian: of PFM's floats.
    begins: the offset of the first sample.
    """

    number: str
    size: Size
    channels: int
    max_value: int
    is_big_endian: bool
    begins: int
    has_alpha: bool

    @property
    def is_plain(self) -> bool:
        """Return whether samples are written as decimal numbers."""
        return self.number in ("P1", "P2", "P3")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the dtype of samples as they are stored in a binary file."""
        if self.number in ("PF", "Pf"):
            return np.dtype(">f4" if self.is_big_endian else "<f4")
        return np.dtype(np.uint8) if self.max_value < 256 else np.dtype(">u2")


def open_pnm(stream: BinaryIO, page: int, max_pixels: int) -> ImageSource:
    """Open a PNM file. Samples of fewer than 8 bits are scaled to 0..255, those of up to 16 bits to 0..65535."""
    with wrap_codec_errors("PNM"):
        header = read_pnm_header(stream.read(MAX_HEADER_BYTES))
    check_page(page, 1)
    check_size(header.size.width, header.size.height, max_pixels)

    def decode() -> tuple[NDArray[Any], bool]:
        stream.seek(header.begins)
        samples = _read_plain(stream, header) if header.is_plain else _read_binary(stream, header)
        return _scale(samples, header), header.has_alpha

    # Plain samples: their text, and numbers of 8 bytes.
    each = 8 * header.dtype.itemsize if not header.is_plain else 32
    return make_source(
        "PNM",
        header.size,
        header.channels,
        header.dtype.newbyteorder("="),
        decode,
        bytes_per_pixel=each * header.channels,
        fixed_bytes=stream.seek(0, 2),
    )


def read_pnm_header(head: bytes) -> PnmHeader:
    """Parse a header. Raises BadInput, UnsupportedFormat, and ValueError where a number is none."""
    number = head[:2].decode("ascii")
    if number == "P7":
        return _read_pam_header(head)
    at, tokens = 2, list[bytes]()
    for _ in range(2 if number in ("P1", "P4") else 3):
        token = _TOKEN.match(head, at)
        if token is None:
            raise damaged_file_error("PNM")
        tokens.append(token[1])
        at = token.end()
    width, height = _read_number(tokens[0]), _read_number(tokens[1])
    max_value, big_endian = 1, True
    if number in ("PF", "Pf"):
        big_endian = float(tokens[2]) > 0
    elif len(tokens) == 3:
        max_value = _read_number(tokens[2])
        if not 1 <= max_value < 1 << 16:
            raise damaged_file_error("PNM")
    channels = 3 if number in ("P3", "P6", "PF") else 1
    return PnmHeader(number, Size(height, width), channels, max_value, big_endian, at + 1, False)


def _read_number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 9:
        raise damaged_file_error("PNM")
    return int(text)


def _read_pam_header(head: bytes) -> PnmHeader:
    fields, at = dict[bytes, bytes](), 0
    for line in head.split(b"\n"):
        at += len(line) + 1
        words = line.split(None, 1)
        if words == [b"ENDHDR"]:
            break
        if len(words) == 2 and not line.startswith(b"#"):
            fields[words[0]] = words[1].strip()
    else:
        raise damaged_file_error("PNM")
    width, height, depth, max_value = (
        _read_number(fields.get(key, b"")) for key in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
    )
    if not 1 <= max_value < 1 << 16 or not depth:
        raise damaged_file_error("PNM")
    if depth > MAX_CHANNELS:
        raise unsupported_error(f"A PAM of {depth} channels")
    has_alpha = fields.get(b"TUPLTYPE", b"").endswith(b"_ALPHA") and depth > 1
    return PnmHeader("P7", Size(height, width), depth, max_value, True, at, has_alpha)


def _read_binary(stream: BinaryIO, header: PnmHeader) -> NDArray[Any]:
    """Return [H, W, C] as stored."""
    height, width, channels = header.size.height, header.size.width, header.channels
    if header.number == "P4":
        stride = -(-width // 8)
        packed = np.frombuffer(_read(stream, height * stride), np.uint8).reshape(height, stride)
        bits: NDArray[Any] = 1 - np.unpackbits(packed, axis=1, count=width)  # 1 is black
        return bits[:, :, np.newaxis]
    data = _read(stream, height * width * channels * header.dtype.itemsize)
    values = np.frombuffer(data, header.dtype).reshape(height, width, channels)
    return values[::-1] if header.dtype.kind == "f" else values  # PFM begins at the bottom


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise damaged_file_error("PNM")
    return data


def _read_plain(stream: BinaryIO, header: PnmHeader) -> NDArray[Any]:
    shape = (header.size.height, header.size.width, header.channels)
    count = math.prod(shape)
    text = _COMMENT.sub(b" ", stream.read())
    if header.number == "P1":  # digits need no space between them
        digits = np.frombuffer(text, np.uint8)
        digits = digits[(digits == ord("0")) | (digits == ord("1"))][:count]
        values: NDArray[Any] = 1 - (digits - ord("0"))
    else:
        # Without a count: with one, what is missing in the text stays as it was in memory.
        values = np.fromstring(text.decode("ascii"), np.int64, sep=" ")[:count]
    if len(values) < count or (len(values) and (values.min() < 0 or values.max() > header.max_value)):
        raise damaged_file_error("PNM")
    return np.reshape(values.astype(header.dtype), shape)


def _scale(samples: NDArray[Any], header: PnmHeader) -> NDArray[Any]:
    """Return samples whose white is the most that their dtype holds, in the machine's byte order."""
    native = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "f":
        return native
    full = int(np.iinfo(native.dtype).max)
    if header.max_value == full:
        return native
    levels = np.minimum(np.arange(full + 1), header.max_value) / header.max_value * full
    table = np.rint(levels).astype(native.dtype)
    scaled: NDArray[Any] = table[native]
    return scaled
