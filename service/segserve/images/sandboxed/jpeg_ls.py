"""Decode JPEG-LS, by imagecodecs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

END_OF_IMAGE = b"\xff\xd9"


def decode_jpeg_ls(data: bytes) -> NDArray[Any]:
    """Return the pixels, (height, width) or (height, width, channels). Zeros after the image are allowed, as in DICOM.

    Raises ValueError where the data ends early: CharLS would compute for seconds before it says so. Raises JpeglsError.
    """
    import imagecodecs

    if not data.rstrip(b"\0").endswith(END_OF_IMAGE):
        raise ValueError("no end of image")
    return np.asarray(imagecodecs.jpegls_decode(data))
