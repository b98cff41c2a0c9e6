"""Put the flat masks of a DICOM SEG onto the grid of the scan that they were drawn on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.dicom.segment_planes import SegmentPlane, SegmentPlanes
from segserve.files.match_grid import MAX_OFFSET_VOXELS, other_grid_error
from segserve.files.volume_geometry import VolumeGeometry
from segserve.types import Bool, UInt8


def place_segments(
    planes: SegmentPlanes, packed: UInt8, scan: VolumeGeometry, *, field: str
) -> Iterator[tuple[int, Bool]]:
    """Yield the number and the mask [Z, Y, X] of each segment, by ascending number.

    packed: as `SegmentPlanes.packed_shape` says. field: of the request, for errors.
    Raises BadInput where the masks are not on the voxels of the scan.
    """
    if not scan.is_placed:
        raise BadInput(
            "The scan does not say where it lies, and a DICOM SEG is placed in space.",
            field=field,
            remedy="Send the scan as DICOM or with its geometry, or the labels as NIfTI, NRRD or MetaImage.",
        )
    to_voxels = np.linalg.inv(scan.affine)
    by_segment = dict[int, list[int]]()
    for index, plane in enumerate(planes.planes):
        by_segment.setdefault(plane.segment, []).append(index)
    for segment in sorted(by_segment):
        volume = np.zeros(scan.size[::-1], np.bool_)
        for index in by_segment[segment]:
            mask = np.unpackbits(packed[index], axis=1, count=planes.columns).view(np.bool_)
            put_plane(volume, mask, planes.planes[index], to_voxels, field)
        yield segment, volume


def put_plane(volume: Bool, mask: Bool, plane: SegmentPlane, to_voxels: NDArray[Any], field: str) -> None:
    """Add a mask [rows, columns] to a volume [Z, Y, X]. to_voxels: [4, 4], from millimetres to voxels (x, y, z)."""
    across, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    rows, columns = mask.shape
    steps = to_voxels[:3, :3] @ np.stack([across * plane.pixel_spacing[1], down * plane.pixel_spacing[0]], 1)
    start = (to_voxels @ [*plane.position, 1.0])[:3]
    exact_steps, exact_start = np.rint(steps), np.rint(start)
    # The error grows over the plane, to its last pixel.
    error = np.abs(start - exact_start) + np.abs(steps - exact_steps) @ [columns - 1, rows - 1]
    is_axis = (
        np.abs(exact_steps).sum(axis=0).tolist() == [1.0, 1.0] and np.abs(exact_steps).sum(axis=1).max() == 1
    )
    corners = exact_start[:, None] + exact_steps @ [[0, columns - 1], [0, rows - 1]]
    size = np.array(volume.shape[::-1])[:, None]
    if not is_axis or error.max() > MAX_OFFSET_VOXELS or (corners < 0).any() or (corners >= size).any():
        raise other_grid_error("A slice of it lies between the voxels of the scan, or outside of it.", field)
    y, x = np.nonzero(mask)
    places = exact_start[:, None].astype(np.int64) + exact_steps.astype(np.int64) @ np.stack([x, y])
    volume[places[2], places[1], places[0]] = True
