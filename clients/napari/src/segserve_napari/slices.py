"""The slice of an image layer that the viewer shows, and where it is in the layer's stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray


@dataclass(frozen=True)
class SliceOfLayer:
    """A slice of a layer. index: its place in the layer's data: a number for each axis, a slice for the two shown.

    axis: the axis to step along for the next slice; None where the layer is one picture, or has more than three axes.
    """

    layer: Image
    index: tuple[int | slice, ...]
    axis: int | None

    @property
    def number(self) -> int:
        """The number of the slice along its axis, from 0; 0 of a single picture."""
        place = 0 if self.axis is None else self.index[self.axis]
        assert isinstance(place, int)
        return place

    def read(self) -> NDArray[Any]:
        """Return the pixels, [height, width] or [height, width, 3]."""
        return np.asarray(full_resolution(self.layer)[self.index])

    def read_stack(self) -> NDArray[Any]:
        """Return all slices, [n, height, width] or [n, height, width, 3]."""
        assert self.axis is not None
        return np.moveaxis(np.asarray(full_resolution(self.layer)), self.axis, 0)

    @property
    def shown_axes(self) -> tuple[int, int]:
        """The axes of the data that are rows and columns."""
        rows, columns = (axis for axis, place in enumerate(self.index) if isinstance(place, slice))
        return rows, columns

    def to_pixel(self, position: Any) -> tuple[float, float] | None:
        """Return x and y for a position in the layer's data, or None where that is beside the slice."""
        rows, columns = self.shown_axes
        y, x = float(position[rows]), float(position[columns])
        shape = spatial_shape(self.layer)
        inside = -0.5 <= y <= shape[rows] - 0.5 and -0.5 <= x <= shape[columns] - 0.5
        return (max(x, 0.0), max(y, 0.0)) if inside else None

    def from_pixel(self, x: float, y: float) -> tuple[float, ...]:
        """Return the position in the layer's data of a pixel of the slice."""
        rows, columns = self.shown_axes
        placed = {rows: y, columns: x}
        return tuple(
            placed[axis] if isinstance(place, slice) else float(place)
            for axis, place in enumerate(self.index)
        )


def full_resolution(layer: Image) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def spatial_shape(layer: Image) -> tuple[int, ...]:
    """Return the shape without the colours."""
    shape = tuple(full_resolution(layer).shape)
    return shape[:-1] if layer.rgb else shape


def find_slice(viewer: Any, layer: Image) -> SliceOfLayer:
    """Return what the viewer shows of the layer. Raises ValueError where it shows no slice of it."""
    if viewer.dims.ndisplay != 2:
        raise ValueError("Show it in 2D: marks are on slices.")
    shape = spatial_shape(layer)
    # Layers with fewer axes than the viewer have its last ones.
    missing = viewer.dims.ndim - len(shape)
    shown = [axis - missing for axis in viewer.dims.displayed]
    if min(shown) < 0:
        raise ValueError("The layer has no slice along the axes that are shown.")
    position = layer.world_to_data(viewer.dims.point)
    index = tuple(
        slice(None) if axis in shown else int(np.clip(round(position[axis]), 0, size - 1))
        for axis, size in enumerate(shape)
    )
    steps = [axis for axis in range(len(shape)) if axis not in shown]
    return SliceOfLayer(layer, index, steps[0] if len(steps) == 1 else None)
