"""PNG, JPEG, WebP and BMP, by Pillow."""

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

# The formats' own classes are used, not Image.open: it would also try the bomb limit that Pillow keeps as a
# global and warns about, while the limit here is the caller's.
_READERS: dict[str, Callable[[BinaryIO], Any]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
}
# A frame of an animation is decoded by decoding all before it; this many times the pixel limit may that take.
_MAX_FRAMES_WORK = 16


def open_raster(name: str, stream: BinaryIO, page: int, max_pixels: int, max_banded: int) -> ImageSource:
    """`name`: "PNG", "JPEG", "WebP" or "BMP". The pages of an animation are its frames. max_banded: pixels of an
    image that can be read in bands."""
    head = stream.read(33)
    if name == "WebP":
        # Pillow takes memory for the whole canvas as soon as the file is opened.
        check_size(*_webp_canvas(head), max_pixels)
    stream.seek(0)
    with wrap_codec_errors(name):
        image: Image = _READERS[name](stream)
    depth, colour = _png_samples(head) if name == "PNG" else (8, 0)
    deep = depth == 16
    frames = 1 if deep else int(getattr(image, "n_frames", 1))
    # What is not stored from top to bottom is decoded whole by every library.
    banded = name in ("PNG", "JPEG") and frames == 1 and not {"interlace", "progressive"} & set(image.info)
    check_size(image.width, image.height, max_banded if banded else max_pixels)
    check_page(page, frames)
    if (page + 1) * image.width * image.height > _MAX_FRAMES_WORK * max_pixels:
        raise TooLarge(
            f"Frame {page} takes too long to reach.",
            remedy="Save the frame as a file of its own.",
            field="page",
        )
    orientation = _orientation(image.info.get("exif"))

    def read() -> RawPixels:
        values, has_alpha = _deep_png(stream, colour) if deep else _frame(name, image, page)
        return RawPixels(values if values.ndim == 3 else values[:, :, np.newaxis], has_alpha, orientation)

    size = Size(image.height, image.width)
    channels = {0: 1, 4: 2, 6: 4}.get(colour, 3) if name == "PNG" else len(image.getbands())
    bands = partial(read_bands, name, stream, size, channels, orientation)
    return ImageSource(size, orientation, read, bands if banded else None)


def _frame(name: str, image: Image, page: int) -> tuple[NDArray[Any], bool]:
    """[H, W] or [H, W, C] uint8, and whether its last channel is alpha."""
    with wrap_codec_errors(name):
        if page:
            image.seek(page)
        image.load()
        # A palette's transparency is alpha, which is dropped anyway; Pillow warns if it is there.
        image.info.pop("transparency", None)
        mode = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB"}.get(image.mode, image.mode)
        values: NDArray[Any] = np.asarray(image if mode == image.mode else image.convert(mode))
    return values, mode in ("LA", "RGBA")


def _deep_png(stream: BinaryIO, colour: int) -> tuple[NDArray[Any], bool]:
    """As `_frame`, uint16; `colour` is PNG's colour type.

    Pillow gives only one byte of a 16-bit sample of colour: the high one of a big-endian number, which it is,
    and the low one if told that it is little-endian. The two bytes of grey it takes for 8-bit channels.
    imagecodecs.png_decode of 2026.3.6 drops a reference to None at a damaged file, which ends a process under
    Python 3.11 after some thousand of them.
    """
    with wrap_codec_errors("PNG"):
        if colour in (2, 6):
            mode = "RGB" if colour == 2 else "RGBA"
            high, low = (_unpacked(stream, mode, f"{mode};16{order}") for order in "BL")
            return high.astype(np.uint16) << 8 | low, colour == 6
        pairs = {0: "LA", 4: "RGBA"}[colour]
        return _unpacked(stream, pairs, pairs).view(">u2").astype(np.uint16), colour == 4


def _unpacked(stream: BinaryIO, mode: str, packing: str) -> NDArray[np.uint8]:
    """A PNG's samples as 8-bit ones of `mode`, [H, W, C], whatever its header calls them."""
    stream.seek(0)
    image = PngImageFile(stream)
    image._mode = mode
    image.tile = [image.tile[0]._replace(args=packing)]
    image.load()
    return np.asarray(image)


def _png_samples(head: bytes) -> tuple[int, int]:
    """(bits a sample, colour type). IHDR must be a PNG's first chunk and holds them at a fixed place."""
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise damaged_file_error("PNG")
    return head[24], head[25]


def _webp_canvas(head: bytes) -> tuple[int, int]:
    """(width, height) from the first chunk; its layouts are those of RFC 9649."""
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


def _orientation(exif: object) -> int:
    """The orientation tag (0x0112) of an EXIF block, or 1 without one that can be read: photographs with
    damaged EXIF are common and shown unturned everywhere. Read here since Pillow's reader warns of damage."""
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
