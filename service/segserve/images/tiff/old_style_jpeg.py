"""Read TIFF of the old JPEG compression (6), whose tables lie in tags of their own, by libtiff in imagecodecs."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import (
    DecodingMemory,
    ImageSource,
    RawPixels,
    damaged_file_error,
    wrap_codec_errors,
)
from segserve.types import Size

# TIFF's number of the compression.
OLD_STYLE_JPEG = 6
# RGBA, the planes before, and RGB.
BYTES_PER_PIXEL = 16
BAND_ROWS = 256


def open_old_style_jpeg(stream: BinaryIO, directory: int, size: Size) -> ImageSource:
    """Open a directory of a TIFF. directory: its number, from 0. size: as it states, and as was checked."""

    def read() -> RawPixels:
        import imagecodecs

        stream.seek(0)
        with wrap_codec_errors("TIFF"):
            rgba: NDArray[Any] = imagecodecs.tiff_decode(stream.read(), index=directory, asrgb=True)
        if rgba.ndim != 3 or rgba.shape[:2] != (size.height, size.width):
            raise damaged_file_error("TIFF")
        return RawPixels(np.ascontiguousarray(rgba[:, :, :3]), False, 1)

    peak = size.height * size.width * BYTES_PER_PIXEL + 2 * stream.seek(0, 2)
    return ImageSource(size, 1, DecodingMemory(3, np.dtype(np.uint8), peak, BAND_ROWS, peak), read, None)
