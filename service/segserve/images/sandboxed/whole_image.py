"""What the readers of this package share: a source that is decoded at once, and reading bytes that must be there."""

from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segserve.images.image_source import (
    DecodingMemory,
    ImageSource,
    RawPixels,
    damaged_file_error,
    wrap_codec_errors,
)
from segserve.types import Size

# Rows of the parts in which decoded pixels are converted.
BAND_ROWS = 256


def make_source(
    name: str,
    size: Size,
    channels: int,
    dtype: DTypeLike,
    decode: Callable[[], tuple[NDArray[Any], bool]],
    *,
    bytes_per_pixel: int,
    fixed_bytes: int = 0,
    orientation: int = 1,
    pages: int = 1,
) -> ImageSource:
    """Return the source of an image that is decoded at once.

    name: of the format.
    channels, dtype: the most that `decode` returns.
    decode: returns [H, W] or [H, W, C], and whether the last channel is alpha. It may raise anything.
    bytes_per_pixel: that decoding takes at its peak, the decoded samples included.
    fixed_bytes: that it takes beside that, such as the file itself.
    pages: as of `ImageSource`.
    """

    def read() -> RawPixels:
        with wrap_codec_errors(name):
            values, has_alpha = decode()
        values = values[:, :, np.newaxis] if values.ndim == 2 else values
        if values.shape[:2] != (size.height, size.width) or values.shape[2] > channels:
            raise damaged_file_error(name)
        return RawPixels(values, has_alpha, orientation)

    peak = size.height * size.width * bytes_per_pixel + fixed_bytes
    memory = DecodingMemory(channels, np.dtype(dtype), peak, BAND_ROWS, peak)
    return ImageSource(size, orientation, memory, read, None, pages=pages)


def read_exactly(stream: BinaryIO, count: int, name: str) -> bytes:
    """Return the next `count` bytes. name: of the format. Raises BadInput where there are fewer."""
    data = stream.read(count)
    if len(data) != count:
        raise damaged_file_error(name)
    return data
