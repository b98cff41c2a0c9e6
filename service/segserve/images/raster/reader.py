"""Open PNG, JPEG, WebP, BMP, GIF, AVIF and TGA files with Pillow, and read their EXIF orientation."""

import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageMode
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TgaImagePlugin import TgaImageFile
from PIL.WebPImagePlugin import WebPImageFile

from segserve.errors import BadInput, TooLarge
from segserve.images.image_source import (
    DecodingMemory,
    ImageSource,
    NeedsSandbox,
    RawPixels,
    check_page,
    check_size,
    damaged_file_error,
    wrap_codec_errors,
)
from segserve.images.raster.bands import BAND_ROWS, read_bands
from segserve.images.raster.bmp_bitfields import open_bitfields
from segserve.images.raster.jpeg_layout import read_jpeg_layout
from segserve.images.raster.png_chunks import read_png_chunks
from segserve.types import Size

# The formats' own classes instead of Image.open, which would also apply Pillow's global decompression bomb limit. The
# limit here is the caller's.
_READERS: dict[str, Callable[[BinaryIO], Any]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "AVIF": AvifImageFile,
    "TGA": TgaImageFile,
}
# libvips has buffers of its own beside the band that it returns.
_BAND_COPIES = 8
# The modes in which Pillow's images are returned, where they differ from their own.
_RESULT_MODES = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB"}
# A frame of an animation is decoded by decoding all frames before it: at most this many times the pixel limit, about
# ten seconds for each.
MAX_DECODED_TIMES_LIMIT = 4
# Pillow unpacks run-length encoded BMP in Python, holding the interpreter's lock: about a second.
MAX_RLE_BMP_PIXELS = 1 << 22


def open_raster(
    name: str, stream: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int
) -> ImageSource:
    """Open a raster image and check its header.

    name: of a format in `_READERS`.
    page: frame of an animation, from 0.
    max_banded_pixels: limit for an image that can be read in bands; max_pixels: for any other.
    """
    head = stream.read(33)
    if name == "WebP":
        # Pillow takes memory for the whole canvas as soon as it opens the file.
        check_size(*_read_webp_canvas(head), max_pixels)
    pixels_only = read_png_chunks(stream) if name == "PNG" else stream
    layout = read_jpeg_layout(stream) if name == "JPEG" else None
    if layout is not None and layout.rare_kind is not None:
        raise NeedsSandbox(layout.rare_kind)
    try:
        image = _open(name, pixels_only)
    except BadInput:
        if name == "BMP" and (source := open_bitfields(stream, page, max_pixels)) is not None:
            return source
        raise
    depth, colour = _read_png_samples(head) if name == "PNG" else (8, 0)
    deep = depth == 16
    frames = 1 if deep else _count_frames(name, image)
    # An image that is not stored from top to bottom is decoded as a whole by every library.
    has_passes = "interlace" in image.info or (layout is not None and layout.has_many_scans)
    banded = name in ("PNG", "JPEG") and frames == 1 and not has_passes
    check_size(image.width, image.height, max_banded_pixels if banded else max_pixels)
    if name == "BMP" and image.tile[0][0] == "bmp_rle":
        check_size(image.width, image.height, min(max_pixels, MAX_RLE_BMP_PIXELS))
    check_page(page, frames)
    if frames > 1 and (page + 1) * image.width * image.height > MAX_DECODED_TIMES_LIMIT * max_pixels:
        raise TooLarge(
            f"Frame {page} takes too long to reach.",
            remedy="Save the frame as a file of its own.",
            field="page",
        )
    orientation = _read_exif_orientation(image.info.get("exif"))
    size = Size(image.height, image.width)
    channels = {0: 1, 4: 2, 6: 4}.get(colour, 3) if name == "PNG" else len(image.getbands())
    unread = [] if deep else [image]
    bands = partial(read_bands, name, stream, size, channels, orientation)

    def read() -> RawPixels:
        if deep:
            return _join_bands(bands(), size)
        # Used once, so that its pixels are not held afterwards.
        values, has_alpha = _decode_frame(name, unread.pop() if unread else _open(name, pixels_only), page)
        return RawPixels(values if values.ndim == 3 else values[:, :, np.newaxis], has_alpha, orientation)

    if deep:
        memory = _estimate_deep_memory(size, channels, has_passes)
    else:
        memory = _estimate_memory(name, image, frames, layout.coefficient_bytes if layout else 0)
    return ImageSource(size, orientation, memory, read, bands if banded else None, pages=frames)


def _open(name: str, stream: BinaryIO) -> ImageFile:
    stream.seek(0)
    with wrap_codec_errors(name):
        image: ImageFile = _READERS[name](stream)
    return image


def _count_frames(name: str, image: ImageFile) -> int:
    """Count the frames. Pillow reads the blocks of all of them for that."""
    with wrap_codec_errors(name):
        return int(getattr(image, "n_frames", 1))


def _decode_frame(name: str, image: ImageFile, page: int) -> tuple[NDArray[Any], bool]:
    """Return [H, W] or [H, W, C] uint8, and whether its last channel is alpha."""
    with wrap_codec_errors(name):
        if page:
            image.seek(page)
        image.load()
        # A palette's transparency is alpha, which is dropped anyway, and with it Pillow warns.
        image.info.pop("transparency", None)
        mode = _RESULT_MODES.get(image.mode, image.mode)
        values: NDArray[Any] = np.asarray(image if mode == image.mode else image.convert(mode))
    return values, mode in ("LA", "RGBA")


def _join_bands(bands: Iterator[RawPixels], size: Size) -> RawPixels:
    """Return all bands of a 16-bit PNG as one [H, W, C] uint16.

    Of a 16-bit sample of colour, Pillow returns only one byte. imagecodecs.png_decode is no alternative to libvips:
    version 2026.3.6 drops a reference to None at a damaged file, which ends a process under Python 3.11 after some
    thousand of them.
    """
    first = next(bands)
    values = np.empty((size.height, *first.values.shape[1:]), first.values.dtype)
    top = 0
    for band in chain([first], bands):
        values[top : top + len(band.values)] = band.values
        top += len(band.values)
    return RawPixels(values, first.has_alpha, first.orientation)


def _estimate_memory(name: str, image: ImageFile, frames: int, coefficient_bytes: int) -> DecodingMemory:
    """Return what decoding an 8-bit image takes: Pillow's image, another of it in the result's mode, and its bytes.

    coefficient_bytes: of a JPEG that is decoded as a whole.
    """
    mode = _RESULT_MODES.get(image.mode, image.mode)
    channels, stored = len(ImageMode.getmode(mode).bands), _stored_bytes(image.mode)
    converted = 0 if mode == image.mode else _stored_bytes(mode)
    samples = 2 * channels  # once in parts, once joined
    if name == "WebP":  # two canvases and the pixels of a lossless frame
        stored += 2 * 4 + 4
    elif name == "AVIF":  # planes of up to 16 bits, an image assembled of tiles, and its pixels in RGB
        stored += 20
    elif frames > 1:  # the frames before, as they were and as they are shown
        stored += 3 * 4
    elif name == "BMP" and image.tile[0][0] == "bmp_rle":
        stored += 3
    pixels = image.width * image.height
    peak = max(pixels * stored + coefficient_bytes, pixels * (stored + converted + samples))
    inks = 2 if image.mode == "CMYK" else 1  # as bytes, and as Pillow's image
    band = _BAND_COPIES * inks * min(BAND_ROWS, image.height) * image.width * 4
    return DecodingMemory(channels, np.dtype(np.uint8), peak, BAND_ROWS, band)


def _estimate_deep_memory(size: Size, channels: int, is_interlaced: bool) -> DecodingMemory:
    """Return what decoding a 16-bit PNG takes; libvips holds all of an interlaced one."""
    # A transparent colour adds a channel.
    band = _BAND_COPIES * min(BAND_ROWS, size.height) * size.width * (channels + 1) * 2
    passes = 2 * size.height * size.width * (channels + 1) if is_interlaced else 0
    peak = 2 * size.height * size.width * channels + passes + band
    return DecodingMemory(channels, np.dtype(np.uint16), peak, BAND_ROWS, band)


def _stored_bytes(mode: str) -> int:
    """Return the bytes that Pillow takes for a pixel."""
    return 1 if mode in ("1", "L", "P") else 4


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
