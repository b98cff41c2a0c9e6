"""The slices of a volume of colours, as frames."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.files.volume_file import VolumeFile


class ColourSlices:
    """`ColourSlices` reads the slices of a volume of colours as frames. It closes the volume."""

    def __init__(self, volume: VolumeFile) -> None:
        self._volume, self.count = volume, volume.geometry.slices
        self._voxels: NDArray[Any] | None = None

    def values(self, index: int) -> NDArray[Any]:
        """Return slice `index` from 0, [H, W, 3]. Raises BadInput, and MemoryError."""
        if self._voxels is None:
            self._voxels = self._volume.voxels()
        return np.asarray(self._voxels[index])

    def close(self) -> None:
        self._volume.close()
