"""Encode pixels as a picture that browsers show: PNG, or JPEG, which takes a twentieth of the time and fewer bytes.

WebP is not written: a tile of 512 pixels takes 10 ms and more as WebP, and 0.3 ms as JPEG.
"""

from typing import Literal

import imagecodecs
import numpy as np

from segserve.types import Size, UInt8

JPEG_QUALITY = 90
# Bytes a pixel: a contiguous copy, and the file, which is hardly ever larger than the pixels.
ENCODING_BYTES = 6

PictureFormat = Literal["png", "jpeg"]


def encode_picture(image: UInt8, picture_format: PictureFormat) -> bytes:
    """Encode grey [H, W, 1] or RGB [H, W, 3]. RGB whose channels are equal is written as grey. Blocks."""
    # A copy: the codecs refuse the strides that a view of one row or column can have.
    pixels = np.array(image[..., 0] if is_grey(image) else image, order="C")
    if picture_format == "png":
        return bytes(imagecodecs.png_encode(pixels, level=1))
    return bytes(imagecodecs.jpeg_encode(pixels, level=JPEG_QUALITY))


def estimate_encoding_bytes(size: Size) -> int:
    """Return the memory that `encode_picture` takes beside the pixels."""
    return ENCODING_BYTES * size.height * size.width


def is_grey(image: UInt8) -> bool:
    """Return whether all channels of [H, W, C] are equal."""
    return all(np.array_equal(image[..., 0], image[..., channel]) for channel in range(1, image.shape[2]))
