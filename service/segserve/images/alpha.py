"""Associated (premultiplied) alpha: colours that were stored multiplied by their opacity are divided by it again."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unmultiply_alpha(values: NDArray[Any]) -> NDArray[Any]:
    """Return [H, W, C] with its colours divided by the last channel, opacity. Where that is 0 colours are 0.

    Integers are rounded and clipped to their dtype's range.
    """
    result = values.copy()
    integer = values.dtype.kind in "ui"
    full = np.iinfo(values.dtype).max if integer else 1
    for row, target in zip(values, result, strict=True):  # row by row, because float64 takes memory
        opacity = row[:, -1:].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            colours = np.where(opacity > 0, row[:, :-1] * (full / opacity), 0)
        target[:, :-1] = np.clip(np.rint(colours), 0, full) if integer else colours
    return result
