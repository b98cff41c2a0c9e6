"""The place of a volume in space."""

from dataclasses import dataclass

from segserve.types import Size


@dataclass(frozen=True)
class VolumeGeometry:
    """`VolumeGeometry` places a volume in space. All values are in ITK's order, x first.

    size: in voxels.
    spacing, origin: in millimetres.
    direction: 3 x 3 matrix, row by row.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @property
    def slices(self) -> int:
        return self.size[2]

    @property
    def slice_size(self) -> Size:
        return Size(self.size[1], self.size[0])
