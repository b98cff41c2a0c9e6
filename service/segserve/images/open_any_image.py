"""Open an image file of any format that is read. Runs in a sandboxed process, never in the service's own.

The libraries of formats that only such a process may decode are imported when the first file of the format is opened.
"""

from collections.abc import Callable
from typing import BinaryIO, TypeAlias

from segserve.images import formats
from segserve.images.formats import ImageFormat, detect_image_format, unread_format_error
from segserve.images.image_source import ImageSource, NeedsSandbox
from segserve.images.raster.reader import open_raster
from segserve.images.sandboxed.heif import open_heif
from segserve.images.sandboxed.jpeg_2000 import open_jpeg_2000
from segserve.images.sandboxed.jpeg_xl import open_jpeg_xl
from segserve.images.sandboxed.pnm import open_pnm
from segserve.images.sandboxed.psd import open_psd
from segserve.images.sandboxed.rare_jpeg import open_rare_jpeg
from segserve.images.tiff.reader import open_tiff

# Called with (stream at its start, page, limit of pixels).
OpenWhole: TypeAlias = Callable[[BinaryIO, int, int], ImageSource]

# Formats that can only be read at once.
_READERS: dict[ImageFormat, OpenWhole] = {
    formats.HEIC: open_heif,
    formats.JPEG_2000: open_jpeg_2000,
    formats.JPEG_XL: open_jpeg_xl,
    formats.PNM: open_pnm,
    formats.PSD: open_psd,
}


# `files.open_file` reads them.
_FILES_OF_THEIR_OWN = (formats.DICOM, formats.CZI, formats.LIF, formats.ND2, formats.OME_ZARR)


def open_any_image(stream: BinaryIO, page: int, max_pixels: int, max_banded_pixels: int) -> ImageSource:
    """Read and check the header of an image file, as `read_image.open_image` does, of any format."""
    image_format = detect_image_format(stream)
    stream.seek(0)
    if image_format in _FILES_OF_THEIR_OWN:
        raise unread_format_error(f"{image_format.name} within another file")
    if image_format is formats.TIFF:
        return open_tiff(stream, page, max_pixels, max_banded_pixels, any_codec=True)
    if (open_whole := _READERS.get(image_format)) is not None:
        return open_whole(stream, page, max_pixels)
    try:
        return open_raster(image_format.name, stream, page, max_pixels, max_banded_pixels)
    except NeedsSandbox:
        stream.seek(0)
        return open_rare_jpeg(stream, page, max_pixels)
