"""The header of FreeSurfer's MGH and MGZ, by nibabel (surfer.nmr.mgh.harvard.edu, FsTutorial/MghFormat)."""

import struct

import numpy as np

from segserve.errors import MissingDependency
from segserve.files.volume_geometry import RAS_TO_LPS, create_geometry
from segserve.files.volume_headers.volume_header import (
    SPACE,
    TIME,
    VolumeHeader,
    complex_values_error,
    spatial_size,
)
from segserve.files.voxel_data import VoxelData, unclear_header_error

DATA_OFFSET = 284
# Version, width, height, depth, frames and the type of a voxel.
_BEGINNING = struct.Struct(">6i")
_VERSION = 1
_MAX_SIDE = 1 << 20
_MAX_TYPE = 10


def is_mgh_head(head: bytes) -> bool:
    """Return whether a file begins as MGH does, which has no magic: by its version, sizes and type."""
    if len(head) < DATA_OFFSET:
        return False
    version, *sides, voxel_type = _BEGINNING.unpack_from(head)
    return (
        version == _VERSION and all(0 < side <= _MAX_SIDE for side in sides) and 0 <= voxel_type <= _MAX_TYPE
    )


def parse_mgh(head: bytes, encoding: str) -> VolumeHeader:
    """Return what a header says. head: its first bytes. encoding: "raw" for MGH, "gzip" for MGZ.

    Raises BadInput, MissingDependency.
    """
    try:
        from nibabel.freesurfer.mghformat import MGHHeader
        from nibabel.spatialimages import HeaderDataError
        from nibabel.wrapstruct import WrapStructError
    except ImportError:
        raise MissingDependency("nibabel", "volumes", "Reading MGH") from None
    try:
        header = MGHHeader(head[:DATA_OFFSET], check=False)
        axes = tuple(int(side) for side in header["dims"])
        affine = np.array(header.get_affine(), np.float64)
    except (HeaderDataError, WrapStructError, ValueError):
        raise unclear_header_error() from None
    try:
        dtype = np.dtype(header.get_data_dtype())
    except KeyError:
        raise complex_values_error("tensors or bits") from None
    roles = (SPACE, SPACE, SPACE, TIME)
    data = VoxelData(0, None, DATA_OFFSET, int(np.prod(axes, dtype=object)), dtype, encoding)
    geometry = create_geometry(
        spatial_size(axes, roles), RAS_TO_LPS @ affine, is_placed=bool(header["goodRASFlag"])
    )
    return VolumeHeader(data, axes, roles, geometry, notes=tuple(geometry.describe_shear()))
