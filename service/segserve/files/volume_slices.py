"""Slices of a volume along any axis, as models see them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.images.normalise import stretch
from segserve.types import Size, UInt8

# Of the voxels that are not 0, as MedSAM's preprocessing of MR volumes; CT wants a window of its own.
PERCENTILES = (0.5, 99.5)
MAX_SAMPLED_VOXELS = 1 << 22  # voxels that decide about them


class VolumeSlices:
    """voxels [Z, Y, X], one value each. axis: that is cut along, 0 for the slices as stored. window: (low, high)
    what becomes 0 and 255; None: by percentiles of the volume."""

    def __init__(self, voxels: NDArray[Any], axis: int, window: tuple[float, float] | None) -> None:
        self._voxels = np.moveaxis(voxels, axis, 0)
        self.count, height, width = self._voxels.shape
        self.size = Size(height, width)
        self._window = window or choose_intensity_window(voxels)

    def read(self, index: int) -> UInt8:
        """RGB [H, W, 3]."""
        return np.repeat(stretch(self._voxels[index][:, :, None], [self._window]), 3, axis=2)

    def close(self) -> None: ...


def choose_intensity_window(voxels: NDArray[Any]) -> tuple[float, float]:
    flat = voxels.reshape(-1)
    if flat.size > MAX_SAMPLED_VOXELS:  # anywhere: with a stride it could be one column
        flat = flat[np.random.default_rng(0).integers(0, flat.size, MAX_SAMPLED_VOXELS)]
    flat = flat.astype(np.float64)
    flat = flat[np.isfinite(flat) & (flat != 0)]
    if not flat.size:
        return 0.0, 1.0
    low, high = np.percentile(flat, PERCENTILES)
    if low == high:  # one value, and 0 around it
        low, high = min(0.0, low), max(0.0, high)
    return float(low), float(high)
