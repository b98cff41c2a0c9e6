"""The stored form of an image that a sandboxed process has decoded: its RGB pixels, as a TIFF compressed by zstd.

It is read as any other TIFF (`tiff/reader.py`), with the default options. zstd on differences of pixels takes a tenth
of the time of PNG.
"""

from typing import BinaryIO

import tifffile

from segserve.images.image_source import ImageSource
from segserve.images.read_image import decode_source
from segserve.types import ReadOptions, Size

STRIP_ROWS = 256


def write_decoded_image(source: ImageSource, options: ReadOptions, out: BinaryIO) -> Size:
    """Decode an image with the options, write its RGB pixels to `out`, and return their size.

    Raises as `read_image.read_image` does, and OSError.
    """
    pixels = decode_source(source, options)
    tifffile.imwrite(
        out,
        pixels,
        photometric="rgb",
        compression="zstd",
        compressionargs={"level": 1},
        predictor=True,
        rowsperstrip=STRIP_ROWS,
        metadata=None,
        software=False,
        maxworkers=1,
    )
    out.seek(0, 2)
    return Size(*pixels.shape[:2])
