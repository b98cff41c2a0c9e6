"""A small picture of an image for people: what models see, as PNG or JPEG."""

from typing import Literal

import imagecodecs
import numpy as np
from PIL import Image

from segserve.types import UInt8

JPEG_QUALITY = 90

PreviewFormat = Literal["png", "jpeg"]


def encode_preview(image: UInt8, max_side_px: int, preview_format: PreviewFormat) -> bytes:
    """Encode RGB [H, W, 3] so that no side is longer than `max_side_px`. A smaller image keeps its size.

    Blocks. An image whose channels are equal is written as grey.
    """
    small = reduce_image(image, max_side_px)
    is_grey = np.array_equal(small[..., 0], small[..., 1]) and np.array_equal(small[..., 0], small[..., 2])
    # A copy: the codecs refuse the strides that a view of one row or column can have.
    pixels = np.array(small[..., 0] if is_grey else small, order="C")
    if preview_format == "png":
        return bytes(imagecodecs.png_encode(pixels, level=1))
    return bytes(imagecodecs.jpeg_encode(pixels, level=JPEG_QUALITY))


def reduce_image(image: UInt8, max_side_px: int) -> UInt8:
    """Resize RGB [H, W, 3] to sides of at most `max_side_px` and at least 1 pixel, each pixel a mean (Pillow's box)."""
    height, width = image.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
