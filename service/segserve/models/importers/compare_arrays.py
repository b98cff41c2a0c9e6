"""The error of a bundle's arrays against its library's, and the refusal of a bundle that is off by too much."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BrokenModel


def error_over_max(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest absolute error over the largest absolute value of `expected`."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def error_over_std(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest absolute error over the standard deviation of `expected`."""
    return float(np.abs(actual - expected).max() / expected.std())


def check_error(what: str, error: float, tolerance: float) -> None:
    """Raise BrokenModel, naming `what` differs, where `error` is over `tolerance` or not a number."""
    if not error <= tolerance:  # written so that NaN fails too
        raise BrokenModel(
            f"The exported {what} differs from the library's by {error:.1e}, more than {tolerance:.0e}.",
            remedy="The weights may not be finite; please report the checkpoint.",
        )
