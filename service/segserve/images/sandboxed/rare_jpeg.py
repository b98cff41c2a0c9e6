"""Read the kinds of JPEG that Pillow does not: lossless (process 14), 12-bit, and JPEG-LS. By imagecodecs."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import (
    ImageSource,
    check_page,
    check_size,
    damaged_file_error,
    unsupported_error,
)
from segserve.images.raster.jpeg_layout import JpegFrame, read_jpeg_frame
from segserve.images.sandboxed.jpeg_ls import decode_jpeg_ls
from segserve.images.sandboxed.lossless_jpeg import decode_lossless_jpeg
from segserve.images.sandboxed.whole_image import make_source
from segserve.types import Size

BYTES_PER_SAMPLE = 16


def open_rare_jpeg(stream: BinaryIO, page: int, max_pixels: int) -> ImageSource:
    """Open a JPEG that is lossless, deeper than 8 bits, or JPEG-LS."""
    frame = read_jpeg_frame(stream)
    if frame is None:
        raise damaged_file_error("JPEG")
    check_page(page, 1)
    check_size(frame.columns, frame.lines, max_pixels)
    channels = len(frame.components)
    if channels not in (1, 3, 4) or frame.is_hierarchical or frame.is_arithmetic:
        raise unsupported_error(f"{frame.rare_kind or 'JPEG'} of this sort")
    dtype = np.uint8 if frame.precision <= 8 else np.uint16
    file_bytes = stream.seek(0, 2)

    def decode() -> tuple[NDArray[Any], bool]:
        stream.seek(0)
        return _decode(stream.read(), frame), False

    return make_source(
        "JPEG",
        Size(frame.lines, frame.columns),
        channels,
        dtype,
        decode,
        bytes_per_pixel=BYTES_PER_SAMPLE * channels,
        fixed_bytes=2 * file_bytes,
    )


def _decode(data: bytes, frame: JpegFrame) -> NDArray[Any]:
    import imagecodecs

    if frame.is_jpeg_ls:
        return decode_jpeg_ls(data)
    if frame.is_lossless:
        return decode_lossless_jpeg(data, frame.lines * frame.columns * len(frame.components))
    return np.asarray(imagecodecs.jpeg8_decode(data))
