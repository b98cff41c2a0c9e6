"""Decode image files in tests, and what the results are compared with."""

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.images.read_image import read_image
from segserve.types import Normalise, ReadOptions, UInt8
from tests.images.sample_images import png_chunk as chunk
from tests.images.sample_images import write_tiff

H, W = 24, 36
MAX_PIXELS = 1_000_000
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (H, W), np.uint8)
RGB = RNG.integers(0, 256, (H, W, 3), np.uint8)
RGBA = RNG.integers(0, 256, (H, W, 4), np.uint8)


def read(data: bytes, max_pixels: int = MAX_PIXELS, **options: Any) -> UInt8:
    options.setdefault("normalise", Normalise.NONE)  # deep values from end to end, so that none is lost
    image = read_image(data, ReadOptions(**options), max_pixels)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.flags.c_contiguous
    return image


def expect_refusal(
    data: bytes, error: type[BadInput] = BadInput, field: str = "file", **options: Any
) -> BadInput:
    with pytest.raises(error) as caught:
        read(data, **options)
    assert caught.value.field == field
    assert caught.value.remedy
    return caught.value


def repeat_grey(grey: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(grey[:, :, None], 3, axis=2)


def stretch_minmax(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    return np.rint((values.astype(np.float64) - low) / (high - low) * 255).astype(np.uint8)


def stretch_percentile(values: NDArray[Any], percentiles: tuple[float, float] = (1, 99)) -> NDArray[np.uint8]:
    low, high = np.percentile(values.astype(np.float64), (1, 99))
    return np.clip(np.rint((values.astype(np.float64) - low) / (high - low) * 255), 0, 255).astype(np.uint8)


def stretch_auto(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high, higher = np.percentile(values.astype(np.float64), (1, 99, 99.9))
    high = max(high, (low + higher) / 2)
    return np.clip(np.rint((values - low) / (high - low) * 255), 0, 255).astype(np.uint8)


# Of one channel of more than 8 bits.
STRETCHES = {
    Normalise.AUTO: stretch_auto,
    Normalise.NONE: stretch_minmax,
    Normalise.MINMAX: stretch_minmax,
    Normalise.PERCENTILE: stretch_percentile,
}


def nearly_equal(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Return whether both are equal except for values on the edge of rounding."""
    return bool(np.abs(left.astype(int) - right).max() <= 1)


def png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def patched_tiff(tags: dict[int, int], **write: Any) -> bytes:
    """Return a little-endian TIFF of RGB in which some of the first page's tags have the values of `tags`."""
    data = bytearray(write_tiff(RGB, photometric="rgb", byteorder="<", **write))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in tags:
            struct.pack_into("<HII", data, entry + 2, 4, 1, tags[tag])
    return bytes(data)
