"""What the header of a volume says, the same for all formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from segserve.errors import BadInput
from segserve.files.volume_geometry import VolumeGeometry
from segserve.files.voxel_data import VoxelData

# Names of axes that a header gives its values.
SPACE, TIME, COLOUR = "space", "time", "colour"
# Red, green and blue, and an opacity that is not read.
COLOUR_CHANNELS = (3, 4)


@dataclass(frozen=True)
class VolumeHeader:
    """`VolumeHeader` says where a volume's values are and what they mean.

    data: where they are, in the file itself, or in `data_file`.
    axes: sizes of the axes of the values, the fastest first.
    roles: of the axes: SPACE, three times, in the order x, y, z; TIME and COLOUR, at most once each.
    slope, intercept: a stored value times `slope` plus `intercept` is what it means.
    data_file: name of the file with the values as the header says it; None: they are in the header's own file.
    notes: what a user must know about the geometry; a sentence each.
    """

    data: VoxelData
    axes: tuple[int, ...]
    roles: tuple[str, ...]
    geometry: VolumeGeometry
    slope: float = 1.0
    intercept: float = 0.0
    data_file: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def times(self) -> int:
        """Points in time."""
        return self.axes[self.roles.index(TIME)] if TIME in self.roles else 1

    @property
    def has_colour(self) -> bool:
        return COLOUR in self.roles

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def values_per_time(self) -> int:
        return prod(self.axes) // self.times


def spatial_size(axes: Sequence[int], roles: Sequence[str]) -> tuple[int, int, int]:
    """Return the sizes of the three axes of space. Raises BadInput where there are others."""
    sizes = [size for size, role in zip(axes, roles, strict=True) if role == SPACE]
    if len(sizes) != 3 or min(axes) < 1 or roles.count(TIME) > 1 or roles.count(COLOUR) > 1:
        raise wrong_axes_error(axes)
    return sizes[0], sizes[1], sizes[2]


def wrong_axes_error(axes: Sequence[int]) -> BadInput:
    return BadInput(
        f"The volume has the axes {' x '.join(map(str, axes))}.",
        field="file",
        remedy="Send one with three axes of space, which may have points in time, or colours of 8 or 16 bits.",
    )


def complex_values_error(kind: str) -> BadInput:
    return BadInput(
        f"The voxels are {kind}, which are not read.",
        field="file",
        remedy="Save them as whole numbers or as floating point numbers of up to 64 bits.",
    )
