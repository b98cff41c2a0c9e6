"""Read HEIC by pi-heif (libheif and libde265). Rotation and mirroring are applied by the decoder."""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segserve.images.alpha import unmultiply_alpha
from segserve.images.image_source import ImageSource, check_page, check_size, wrap_codec_errors
from segserve.images.sandboxed.whole_image import make_source
from segserve.types import Size

# Decoded planes, of which some are deeper than 8 bits, an image assembled of tiles, and its pixels in RGB.
BYTES_PER_PIXEL = 24


def open_heif(stream: BinaryIO, page: int, max_pixels: int) -> ImageSource:
    """Open an image of a HEIC file. page: 0 is the primary image; after it the others, in the order of the file.

    Deeper images become 8-bit, as viewers show them.
    """
    with wrap_codec_errors("HEIC"):
        import pi_heif

        pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
        pi_heif.options.DECODE_THREADS = 1
        images = sorted(pi_heif.open_heif(stream), key=lambda image: not image.info["primary"])
    check_page(page, len(images))
    image = images[page]
    width, height = image.size
    check_size(width, height, max_pixels)

    def decode() -> tuple[NDArray[Any], bool]:
        values = np.array(image)  # a copy: the image frees its samples, whoever still uses them
        return (unmultiply_alpha(values) if image.premultiplied_alpha else values), image.has_alpha

    file_bytes = stream.seek(0, 2)
    return make_source(
        "HEIC",
        Size(height, width),
        4,
        np.uint8,
        decode,
        bytes_per_pixel=BYTES_PER_PIXEL,
        fixed_bytes=2 * file_bytes,
        pages=len(images),
    )
