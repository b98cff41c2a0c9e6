"""Bring labels to the grid of the scan that they were drawn on, where the two differ in the order and sense of axes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.volume_geometry import VolumeGeometry

# Share of a voxel by which the corners of two grids may differ: more than rounding in headers, less than anyone sees.
MAX_OFFSET_VOXELS = 0.05


def match_grid(
    labels: NDArray[Any], source: VolumeGeometry, target: VolumeGeometry, *, field: str
) -> NDArray[Any]:
    """Return labels [Z, Y, X] of the grid `source` as labels of the grid `target`: the same voxels, axes turned.

    Where one of the two does not say where it lies, their axes count as the same.

    field: of the request, for errors.
    Raises BadInput, which says what differs, where the grids are not the same voxels.
    """
    if not (source.is_placed and target.is_placed):
        if source.size != target.size:
            raise other_grid_error(
                f"Its size is {describe_size(source)}, the scan's {describe_size(target)}.", field
            )
        return labels
    # From voxels of the target to voxels of the source, both x first.
    step = np.linalg.inv(source.affine) @ target.affine
    axes = np.abs(step[:3, :3]).argmax(axis=0)
    permuted = tuple(int(source.size[axis]) for axis in axes)
    if len(set(axes.tolist())) == 3 and permuted == target.size:
        signs = np.sign(step[axes, range(3)])
        exact = np.zeros((4, 4))
        exact[3, 3] = 1
        exact[axes, range(3)] = signs
        for axis, sign in zip(axes, signs, strict=True):
            exact[axis, 3] = 0 if sign > 0 else source.size[axis] - 1
        if grid_distance(step, exact, target.size) <= MAX_OFFSET_VOXELS:
            # The axes of the array are z, y, x.
            turned = labels.transpose([2 - int(axis) for axis in axes[::-1]])
            return turned[tuple(slice(None, None, int(sign)) for sign in signs[::-1])]
    raise other_grid_error(describe_difference(source, target), field)


def grid_distance(first: NDArray[Any], second: NDArray[Any], size: tuple[int, int, int]) -> float:
    """Return the greatest distance of a corner of the grid under one matrix to that under the other, in voxels."""
    corners = np.array(
        [[x, y, z, 1] for x in (0, size[0] - 1) for y in (0, size[1] - 1) for z in (0, size[2] - 1)]
    )
    return float(np.abs((first - second) @ corners.T).max())


def describe_difference(source: VolumeGeometry, target: VolumeGeometry) -> str:
    """Return sentences about sizes, spacings and the offset of two grids."""
    parts = []
    if sorted(source.size) != sorted(target.size):
        parts.append(f"Its size is {describe_size(source)}, the scan's {describe_size(target)}.")
    if not np.allclose(sorted(source.spacing), sorted(target.spacing), rtol=1e-3):
        spacings = [" x ".join(f"{length:.4g}" for length in each.spacing) for each in (source, target)]
        parts.append(f"Its spacing is {spacings[0]} mm, the scan's {spacings[1]} mm.")
    offset = box_centre(source) - box_centre(target)
    if np.abs(offset).max() > MAX_OFFSET_VOXELS * min(target.spacing):
        shift = ", ".join(f"{length:.4g}" for length in offset)
        parts.append(f"Its centre lies {shift} mm (left, back, top) from the scan's.")
    return " ".join(parts) or "Its axes point in other directions than the scan's."


def box_centre(geometry: VolumeGeometry) -> NDArray[np.float64]:
    """Return the centre of a volume in millimetres."""
    centre: NDArray[np.float64] = geometry.affine @ [*((side - 1) / 2 for side in geometry.size), 1]
    return centre[:3]


def describe_size(geometry: VolumeGeometry) -> str:
    return " x ".join(map(str, geometry.size))


def other_grid_error(difference: str, field: str) -> BadInput:
    return BadInput(
        f"The labels are not on the grid of the scan. {difference}",
        field=field,
        remedy="Send the labels of this volume, or resample them to its grid first, nearest neighbour.",
    )
