"""A small picture of an image for people: what models see, as PNG or JPEG."""

import numpy as np
from PIL import Image

from segserve.images.encode_picture import PictureFormat, encode_picture
from segserve.types import UInt8


def encode_preview(image: UInt8, max_side_px: int, picture_format: PictureFormat) -> bytes:
    """Encode RGB [H, W, 3] so that no side is longer than `max_side_px`. A smaller image keeps its size. Blocks."""
    return encode_picture(reduce_image(image, max_side_px), picture_format)


def reduce_image(image: UInt8, max_side_px: int) -> UInt8:
    """Resize RGB [H, W, 3] to sides of at most `max_side_px` and at least 1 pixel, each pixel a mean (Pillow's box)."""
    height, width = image.shape[:2]
    scale = max_side_px / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
