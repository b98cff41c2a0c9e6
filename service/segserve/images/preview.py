"""A small picture of an image for people: what models see, as PNG or JPEG."""

import numpy as np
from PIL import Image

from segserve.images.encode_picture import PictureFormat, encode_picture, estimate_encoding_bytes
from segserve.types import Size, UInt8

# Pillow keeps RGB in four bytes a pixel.
PILLOW_BYTES = 4
RGB_BYTES = 3


def encode_preview(image: UInt8, max_side_px: int, picture_format: PictureFormat) -> bytes:
    """Encode RGB [H, W, 3] so that no side is longer than `max_side_px`. A smaller image keeps its size. Blocks."""
    return encode_picture(reduce_image(image, max_side_px), picture_format)


def estimate_preview_bytes(size: Size, max_side_px: int) -> int:
    """Return the memory that `encode_preview` takes beside its image."""
    reduced = reduce_size(size, max_side_px)
    if reduced == size:
        return estimate_encoding_bytes(size)
    # Pillow's image, which it reduces row by row first, its result, and this as an array.
    held_pixels = size.height * size.width + size.height * reduced.width + reduced.height * reduced.width
    resizing = PILLOW_BYTES * held_pixels + RGB_BYTES * reduced.height * reduced.width
    return resizing + estimate_encoding_bytes(reduced)


def reduce_size(size: Size, max_side_px: int) -> Size:
    """Return the size with sides of at most `max_side_px`, and at least 1 pixel."""
    scale = max_side_px / max(size.height, size.width)
    if scale >= 1:
        return size
    return Size(max(1, round(size.height * scale)), max(1, round(size.width * scale)))


def reduce_image(image: UInt8, max_side_px: int) -> UInt8:
    """Resize RGB [H, W, 3] to sides of at most `max_side_px` and at least 1 pixel, each pixel a mean (Pillow's box)."""
    size = Size(*image.shape[:2])
    reduced = reduce_size(size, max_side_px)
    if reduced == size:
        return image
    resized = Image.fromarray(image).resize((reduced.width, reduced.height), Image.Resampling.BOX)
    return np.asarray(resized)
