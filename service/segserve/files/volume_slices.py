"""Cut a volume into slices along any axis, stretched to 8 bits by an intensity window."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.images.normalise import stretch
from segserve.types import Size, UInt8

# Percentiles of the voxels that are not 0, as MedSAM preprocesses MR volumes. CT needs a window from the request.
WINDOW_PERCENTILES = (0.5, 99.5)
# Voxels that the percentiles are computed from, at most.
MAX_SAMPLED_VOXELS = 1 << 22


class VolumeSlices:
    """`VolumeSlices` reads the slices of a volume.

    voxels: [Z, Y, X], one value each.
    axis: along which the volume is cut, 0 for the slices as stored.
    window: (low, high), the values that become 0 and 255; None: by percentiles of the volume.
    """

    def __init__(self, voxels: NDArray[Any], axis: int, window: tuple[float, float] | None) -> None:
        self._voxels = np.moveaxis(voxels, axis, 0)
        self.count, height, width = self._voxels.shape
        self.size = Size(height, width)
        self._window = window or choose_intensity_window(voxels)

    def read(self, index: int) -> UInt8:
        """Return slice `index` from 0, RGB [H, W, 3]."""
        return np.repeat(stretch(self._voxels[index][:, :, None], [self._window]), 3, axis=2)

    def close(self) -> None: ...


def choose_intensity_window(voxels: NDArray[Any]) -> tuple[float, float]:
    """Return (low, high): WINDOW_PERCENTILES of the finite voxels that are not 0."""
    values = voxels.reshape(-1)
    if values.size > MAX_SAMPLED_VOXELS:
        # At random positions: every n-th voxel could be a single column.
        values = values[np.random.default_rng(0).integers(0, values.size, MAX_SAMPLED_VOXELS)]
    values = values.astype(np.float64)
    values = values[np.isfinite(values) & (values != 0)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, WINDOW_PERCENTILES)
    if low == high:  # there is one value besides 0: stretch between the two
        low, high = min(0.0, low), max(0.0, high)
    return float(low), float(high)
