"""Open PNG, JPEG, WebP and BMP files with Pillow, and read their EXIF orientation."""

import struct
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from segserve.errors import TooLarge
from segserve.images.image_source import (
    ImageSource,
    RawPixels,
    check_page,
    check_size,
    damaged_file_error,
    wrap_codec_errors,
)
from segserve.images.raster.bands import read_bands
from segserve.types import Size

# The formats' own classes instead of Image.open, which would also apply Pillow's global decompression bomb limit. The
# limit here is the caller's.
_READERS: dict[str, Callable[[BinaryIO], Any]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
}
# A frame of an animation is decoded by decoding all frames before it: at most this many times the pixel limit.
_MAX_DECODED_TIMES_LIMIT = 16


def open_raster(
    name: str, stream: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int
) -> ImageSource:
    """Open a raster image and check its header.

    name: "PNG", "JPEG", "WebP" or "BMP".
    page: frame of an animation, from 0.
    max_banded_pixels: limit for an image that can be read in bands; max_pixels: for any other.
    """
    head = stream.read(33)
    if name == "WebP":
        # Pillow takes memory for the whole canvas as soon as it opens the file.
        check_size(*_read_webp_canvas(head), max_pixels)
    stream.seek(0)
    with wrap_codec_errors(name):
        image: Image = _READERS[name](stream)
    depth, colour = _read_png_samples(head) if name == "PNG" else (8, 0)
    deep = depth == 16
    frames = 1 if deep else int(getattr(image, "n_frames", 1))
    # An image that is not stored from top to bottom is decoded as a whole by every library.
    banded = name in ("PNG", "JPEG") and frames == 1 and not {"interlace", "progressive"} & set(image.info)
    check_size(image.width, image.height, max_banded_pixels if banded else max_pixels)
    check_page(page, frames)
    if (page + 1) * image.width * image.height > _MAX_DECODED_TIMES_LIMIT * max_pixels:
        raise TooLarge(
            f"Frame {page} takes too long to reach.",
            remedy="Save the frame as a file of its own.",
            field="page",
        )
    orientation = _read_exif_orientation(image.info.get("exif"))

    def read() -> RawPixels:
        values, has_alpha = _decode_16_bit_png(stream, colour) if deep else _decode_frame(name, image, page)
        return RawPixels(values if values.ndim == 3 else values[:, :, np.newaxis], has_alpha, orientation)

    size = Size(image.height, image.width)
    channels = {0: 1, 4: 2, 6: 4}.get(colour, 3) if name == "PNG" else len(image.getbands())
    bands = partial(read_bands, name, stream, size, channels, orientation)
    return ImageSource(size, orientation, read, bands if banded else None)


def _decode_frame(name: str, image: Image, page: int) -> tuple[NDArray[Any], bool]:
    """Return [H, W] or [H, W, C] uint8, and whether its last channel is alpha."""
    with wrap_codec_errors(name):
        if page:
            image.seek(page)
        image.load()
        # A palette's transparency is alpha, which is dropped anyway, and with it Pillow warns.
        image.info.pop("transparency", None)
        mode = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB"}.get(image.mode, image.mode)
        values: NDArray[Any] = np.asarray(image if mode == image.mode else image.convert(mode))
    return values, mode in ("LA", "RGBA")


def _decode_16_bit_png(stream: BinaryIO, colour: int) -> tuple[NDArray[Any], bool]:
    """Return [H, W] or [H, W, C] uint16, and whether its last channel is alpha.

    colour: PNG's colour type.

    Of a 16-bit sample of colour, Pillow returns only one byte: the high byte of a big-endian number, which PNG has,
    and the low byte if told that the number is little-endian. So the image is decoded twice. For grey, Pillow can
    decode the two bytes as two 8-bit channels. imagecodecs.png_decode is no alternative: version 2026.3.6 drops a
    reference to None at a damaged file, which ends a process under Python 3.11 after some thousand of them.
    """
    with wrap_codec_errors("PNG"):
        if colour in (2, 6):
            mode = "RGB" if colour == 2 else "RGBA"
            high, low = (_decode_as(stream, mode, f"{mode};16{order}") for order in "BL")
            return high.astype(np.uint16) << 8 | low, colour == 6
        pairs = {0: "LA", 4: "RGBA"}[colour]
        return _decode_as(stream, pairs, pairs).view(">u2").astype(np.uint16), colour == 4


def _decode_as(stream: BinaryIO, mode: str, packing: str) -> NDArray[np.uint8]:
    """Return a PNG's bytes decoded as 8-bit samples of `mode`, [H, W, C], whatever its header says."""
    stream.seek(0)
    image = PngImageFile(stream)
    image._mode = mode
    image.tile = [image.tile[0]._replace(args=packing)]
    image.load()
    return np.asarray(image)


def _read_png_samples(head: bytes) -> tuple[int, int]:
    """Return (bits a sample, colour type). IHDR must be a PNG's first chunk and holds them at fixed offsets."""
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise damaged_file_error("PNG")
    return head[24], head[25]


def _read_webp_canvas(head: bytes) -> tuple[int, int]:
    """Return (width, height) from the first chunk; its layouts are those of RFC 9649."""
    if len(head) < 30:
        raise damaged_file_error("WebP")
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            raise damaged_file_error("WebP")


def _read_exif_orientation(exif: object) -> int:
    """Return the orientation tag (0x0112) of an EXIF block, 1 to 8, or 1 if it cannot be read.

    Photographs with damaged EXIF are common, and viewers show them unturned. The tag is parsed here because Pillow's
    parser warns of damage.
    """
    block = exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else b""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "4xI", block)
        (count,) = struct.unpack_from(order + "H", block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, value = struct.unpack_from(order + "H6xH", block, entry)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
