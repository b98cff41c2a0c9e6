"""The place of a volume in space."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segserve.errors import BadInput
from segserve.types import Size

# NIfTI's and FreeSurfer's axes point to the right, front and top of a patient, ITK's and DICOM's to the left, back and
# top.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Cosine of the angle between two axes that still counts as a right one: 0.06 degrees, far above float32's rounding.
MAX_COSINE = 1e-3
# Smallest volume of the box that three directions span: below it they lie in a plane.
MIN_DETERMINANT = 1e-3


@dataclass(frozen=True)
class VolumeGeometry:
    """`VolumeGeometry` places a volume in space. All values are in ITK's order, x first.

    size: in voxels.
    spacing, origin: in millimetres. The spacing is the distance of voxels along an axis.
    direction: 3 x 3 matrix, row by row; its columns are the directions of the axes, which may be sheared.
    is_placed: whether the file says where the volume lies; if not, its origin and direction are a format's defaults.
    nifti_header: of a source in NIfTI, as stored: 348 or 540 bytes.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    is_placed: bool = True
    nifti_header: bytes | None = None

    @property
    def slices(self) -> int:
        return self.size[2]

    @property
    def slice_size(self) -> Size:
        return Size(self.size[1], self.size[0])

    @property
    def affine(self) -> NDArray[np.float64]:
        """The 4 x 4 matrix from voxel (x, y, z, 1) to millimetres in ITK's and DICOM's axes (LPS)."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def max_cosine(self) -> float:
        """The cosine of the angle of two axes: 0 for three right angles."""
        direction = np.reshape(self.direction, (3, 3))
        cosines: NDArray[np.float64] = np.abs(direction.T @ direction)[np.triu_indices(3, 1)]
        return float(cosines.max())

    def describe_shear(self) -> list[str]:
        """Return a sentence about axes that are not at right angles; nothing where they are."""
        if self.max_cosine <= MAX_COSINE:
            return []
        degrees = np.degrees(np.arcsin(min(1.0, self.max_cosine)))
        return [
            f"Its axes are sheared by {degrees:.1f} degrees: slices are shown as they are stored, and results keep the"
            " shear."
        ]


def create_geometry(
    size: tuple[int, int, int], affine: ArrayLike, *, is_placed: bool, nifti_header: bytes | None = None
) -> VolumeGeometry:
    """Return the geometry of a volume.

    affine: [4, 4], from voxel (x, y, z, 1) to millimetres in ITK's axes (LPS).
    Raises BadInput where it does not span space.
    """
    matrix: NDArray[Any] = np.asarray(affine, np.float64)
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    if not np.isfinite(matrix).all() or not (spacing > 0).all() or not np.isfinite(spacing).all():
        raise no_geometry_error()
    direction = matrix[:3, :3] / spacing
    if abs(np.linalg.det(direction)) < MIN_DETERMINANT:
        raise no_geometry_error()
    x, y, z = spacing.tolist()
    return VolumeGeometry(
        size,
        (x, y, z),
        tuple(matrix[:3, 3].tolist()),
        tuple(direction.ravel().tolist()),
        is_placed,
        nifti_header,
    )


def no_geometry_error() -> BadInput:
    return BadInput(
        "The header's spacing, origin and directions are no place in space: a number is missing, or the axes lie in"
        " one plane.",
        field="file",
        remedy="Correct the header, for example by saving the volume again in a viewer.",
    )
