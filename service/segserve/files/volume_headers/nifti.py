"""The headers of NIfTI-1, NIfTI-2 and Analyze, by nibabel (nifti.nimh.nih.gov; Analyze as SPM 2 reads it)."""

import logging
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, MissingDependency
from segserve.files.volume_geometry import RAS_TO_LPS, VolumeGeometry, create_geometry, no_geometry_error
from segserve.files.volume_headers.volume_header import (
    COLOUR,
    COLOUR_CHANNELS,
    SPACE,
    TIME,
    VolumeHeader,
    complex_values_error,
    spatial_size,
    wrong_axes_error,
)
from segserve.files.voxel_data import VoxelData, unclear_header_error

# Bytes of the headers of NIfTI-1 (and of Analyze) and NIfTI-2, which begin with this number.
NIFTI1_BYTES, NIFTI2_BYTES = 348, 540
# Offset and values of the magic: the voxels are in the file itself, or in a second one.
NIFTI1_MAGIC_AT, NIFTI2_MAGIC_AT = 344, 4
SINGLE_MAGIC, PAIR_MAGIC = {b"n+1\0", b"n+2\0"}, {b"ni1\0", b"ni2\0"}
# The file with the voxels of a pair: the header's name with another suffix.
PAIR_DATA_FILE = "*.img"
# Intents of a fifth axis that is a colour (nifti1.h).
COLOUR_INTENTS = {2003, 2004}
# Millimetres by the code of a unit of length (nifti1.h); 0, unknown, counts as millimetres.
MM_BY_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
SPATIAL_UNIT_BITS = 7
ANALYZE_NOTE = (
    "Analyze does not say which side is left: it is read as SPM does, with the first voxel at the right."
)

# nibabel tells here what it mends in a header.
_SILENT = logging.Logger("nibabel headers", logging.CRITICAL)


def find_data_offset(header: Any) -> int:
    """Return where the voxels begin. NIfTI-1 has it as a float. Raises BadInput."""
    try:
        return max(0, int(header.get_data_offset()))
    except (ValueError, OverflowError):
        raise unclear_header_error() from None


def parse_nifti(head: bytes, encoding: str, matrix_file: bytes | None = None) -> VolumeHeader:
    """Return what a header says.

    head: its first bytes.
    encoding: of the file with the voxels, see `VoxelData`.
    matrix_file: SPM's .mat beside an Analyze pair, which places it in space.

    Raises BadInput, MissingDependency.
    """
    header = parse_header(head)
    is_nifti = hasattr(header, "get_sform")
    dtype, channels = find_dtype(header)
    axes, roles = find_axes(header, channels)
    size = spatial_size(axes, roles)
    offset, smallest = find_data_offset(header), 0
    is_single = is_nifti and bytes(header["magic"].item()).ljust(4, b"\0") in SINGLE_MAGIC
    if is_single:
        smallest = int(header.sizeof_hdr)
    slope, intercept = header.get_slope_inter()
    data = VoxelData(0, None, max(offset, smallest), int(np.prod(axes, dtype=object)), dtype, encoding)
    if matrix_file is not None and not is_nifti:
        geometry = create_geometry(size, RAS_TO_LPS @ read_matrix(matrix_file), is_placed=True)
    else:
        geometry = find_geometry(header, size, head)
    return VolumeHeader(
        data,
        axes,
        roles,
        geometry,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
        None if is_single else PAIR_DATA_FILE,
        (*geometry.describe_shear(), *([] if is_nifti or geometry.is_placed else [ANALYZE_NOTE])),
    )


def parse_header(head: bytes) -> Any:
    """Return nibabel's header of a file that begins with `head`. Raises BadInput, MissingDependency."""
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
        from nibabel.spatialimages import HeaderDataError
        from nibabel.spm2analyze import Spm2AnalyzeHeader
        from nibabel.wrapstruct import WrapStructError
    except ImportError:
        raise MissingDependency("nibabel", "volumes", "Reading NIfTI") from None
    if has_magic(head, NIFTI2_MAGIC_AT):
        header_class, size = Nifti2Header, NIFTI2_BYTES
    elif has_magic(head, NIFTI1_MAGIC_AT):
        header_class, size = Nifti1Header, NIFTI1_BYTES
    else:
        header_class, size = Spm2AnalyzeHeader, NIFTI1_BYTES
    try:
        header = header_class(head[:size], check=False)
        header.check_fix(logger=_SILENT)
    except (HeaderDataError, WrapStructError, ValueError):
        raise unclear_header_error() from None
    return header


def has_magic(head: bytes, at: int) -> bool:
    return head[at : at + 4] in SINGLE_MAGIC | PAIR_MAGIC


def is_nifti_head(head: bytes) -> bool:
    """Return whether a file begins as NIfTI-1 or NIfTI-2 do, with its voxels inside or in a second file."""
    return has_magic(head, NIFTI1_MAGIC_AT) or has_magic(head, NIFTI2_MAGIC_AT)


def find_dtype(header: Any) -> tuple[np.dtype[Any], int]:
    """Return the type of a value in the file's byte order, and how many colours a voxel has. Raises BadInput."""
    try:
        dtype = header.get_data_dtype()
    except (KeyError, ValueError):
        raise unclear_header_error() from None
    if dtype.names is not None:  # RGB and RGBA have a structure of bytes
        return np.dtype(np.uint8), len(dtype.names)
    if dtype.kind == "c":
        raise complex_values_error("complex numbers")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise complex_values_error("numbers of over 64 bits")
    return dtype, 1


def find_axes(header: Any, channels: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the sizes and the roles of the axes, the fastest first. Raises BadInput."""
    try:
        shape = [int(size) for size in header.get_data_shape()]
    except (ValueError, TypeError):
        raise unclear_header_error() from None
    shape[3:] = [max(1, size) for size in shape[3:]]  # 0 is common for an axis that is not used
    shape += [1] * (5 - len(shape))
    if min(shape) < 1 or any(size > 1 for size in shape[5:]):
        raise wrong_axes_error(shape)
    axes, roles = shape[:4], [SPACE, SPACE, SPACE, TIME]
    if shape[4] > 1:
        has_colour = int(header["intent_code"]) in COLOUR_INTENTS and shape[4] in COLOUR_CHANNELS
        if not has_colour or channels > 1:
            raise wrong_axes_error(shape)
        axes, roles = [*axes, shape[4]], [*roles, COLOUR]
    if channels > 1:
        axes, roles = [channels, *axes], [COLOUR, *roles]
    return tuple(axes), tuple(roles)


def find_geometry(header: Any, size: tuple[int, int, int], head: bytes) -> VolumeGeometry:
    """Return the geometry: the sform, else the qform, else the spacing alone. Raises BadInput."""
    is_nifti = hasattr(header, "get_sform")
    try:
        affine = np.array(header.get_best_affine(), np.float64)
    except (ValueError, np.linalg.LinAlgError):  # the quaternion is no rotation
        raise no_geometry_error() from None
    if not is_nifti:
        return create_geometry(size, RAS_TO_LPS @ affine, is_placed=False)
    unit = int(header["xyzt_units"]) & SPATIAL_UNIT_BITS
    if unit not in MM_BY_UNIT:
        raise BadInput(
            f"The header has the unit of length {unit}, which does not exist.",
            field="file",
            remedy="Set xyzt_units to millimetres, micrometres or metres.",
        )
    affine[:3] *= MM_BY_UNIT[unit]
    is_placed = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    stored = head[: int(header.sizeof_hdr)]
    return create_geometry(size, RAS_TO_LPS @ affine, is_placed=is_placed, nifti_header=stored)


def read_matrix(matrix_file: bytes) -> NDArray[np.float64]:
    """Return the affine [4, 4] of SPM's .mat, from voxels counted from 0 to millimetres (RAS). Raises BadInput.

    "mat" includes the flip of the x axis that "M" leaves to the header.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values = loadmat(BytesIO(matrix_file))  # type: ignore[arg-type]
        affine = np.array(values["mat"] if "mat" in values else values["M"], np.float64)
        if affine.ndim == 3:  # one for each point in time
            affine = affine[:, :, 0]
        if affine.shape != (4, 4):
            raise ValueError
    except (ValueError, KeyError, TypeError, NotImplementedError, MatReadError):
        raise BadInput(
            "The .mat beside the header holds no matrix that places the volume.",
            field="file",
            remedy="Save the volume as NIfTI.",
        ) from None
    if "mat" not in values:
        affine = np.diag([-1.0, 1.0, 1.0, 1.0]) @ affine
    affine[:3, 3] += affine[:3, :3].sum(axis=1)  # SPM counts voxels from 1
    return affine
