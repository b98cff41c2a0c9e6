"""Decode lossless JPEG (ITU-T T.81, process 14), as files and DICOM hold it."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A code of 16 bits and a difference of 16.
MAX_SAMPLE_BYTES = 4
# For what the decoder reads ahead.
SPARE_BYTES = 64


def decode_lossless_jpeg(data: bytes, samples: int) -> NDArray[Any]:
    """Return [H, W] or [H, W, C] of uint8 or uint16.

    samples: of all channels together.

    The decoder of imagecodecs does not look for the end of its input. Where the data are damaged it would go on with
    whatever is in memory behind them. So zeros are put there, which take no memory until they are read.

    Raises what imagecodecs raises.
    """
    import imagecodecs

    with mmap.mmap(-1, len(data) + MAX_SAMPLE_BYTES * samples + SPARE_BYTES) as padded:
        padded[: len(data)] = data
        return np.asarray(imagecodecs.jpegsof3_decode(padded))
