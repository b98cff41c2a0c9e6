"""Keep liblj92 away from the JPEG streams of TIFF files.

imagecodecs gives it what libjpeg-turbo refuses, lossless or not, wherever the bytes of a lossless frame header are in
the stream. It is not made for hostile data, and does not check where its tables and codes end. libjpeg-turbo reads
lossless JPEG itself since version 3.
"""

from typing import Any

import imagecodecs


def refuse_to_decode(*args: Any, **options: Any) -> Any:
    raise ValueError("libjpeg-turbo cannot decode the JPEG")


def turn_off_liblj92() -> None:
    # imagecodecs sets all names of a codec when the first of them is used. It must not do so after us.
    imagecodecs.ljpeg_decode  # noqa: B018
    imagecodecs.ljpeg_decode = refuse_to_decode
