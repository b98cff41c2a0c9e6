"""No-data (GDAL's tag 42113): the value that stands for "not measured". It counts as NaN wherever limits are found."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def parse_no_data(text: object) -> float | None:
    """Return the value that the tag's text states, None where it is no number or NaN, which counts as NaN anyway."""
    try:
        value = float(str(text).strip().strip("\0"))
    except ValueError:
        return None
    return None if math.isnan(value) else value


def widened_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the float dtype that holds all values of `dtype` and NaN."""
    if dtype.kind == "f":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def no_data_to_nan(values: NDArray[Any], no_data: float) -> NDArray[Any]:
    """Return a copy of `values` [H, W, C] as floats, with NaN in place of `no_data`."""
    result = values.astype(widened_dtype(values.dtype))
    with np.errstate(over="ignore"):
        marker = result.dtype.type(no_data)  # as a float32 holds it
    for row in result:  # row by row, because the comparison takes memory
        row[row == marker] = np.nan
    return result
