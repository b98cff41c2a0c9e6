"""Write a label volume as NIfTI, with the header of a source in NIfTI (qform, sform, intent, units), by nibabel."""

import logging
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segserve.errors import MissingDependency
from segserve.files.volume_geometry import RAS_TO_LPS, VolumeGeometry

# NIfTI-1 holds sizes in 16 bits.
MAX_NIFTI1_SIDE = 32767
NIFTI1_BYTES = 348
# nifti1.h: the qform and sform are of the scanner; nothing is said about either.
SCANNER_CODE, UNKNOWN_CODE = 1, 0

# nibabel tells here what it mends in a header.
_SILENT = logging.Logger("nibabel headers", logging.CRITICAL)


def write_nifti(path: Path, labels: NDArray[Any], geometry: VolumeGeometry) -> None:
    """Write labels [Z, Y, X]. path: ends with .nii or .nii.gz.

    A source's header is kept but for what describes its voxels: their type, scale, range and number of points in time.
    Raises MissingDependency.
    """
    try:
        import nibabel
    except ImportError:
        raise MissingDependency("nibabel", "volumes", "Making a NIfTI file") from None
    source = geometry.nifti_header
    fits_nifti1 = max(geometry.size) <= MAX_NIFTI1_SIDE and (source is None or len(source) == NIFTI1_BYTES)
    image_class = nibabel.Nifti1Image if fits_nifti1 else nibabel.Nifti2Image
    header = (
        image_class.header_class(source, check=False) if source is not None else image_class.header_class()
    )
    header = header.as_byteswapped("<")
    header.set_data_shape(geometry.size)
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["vox_offset"] = 0
    header["magic"] = header.single_magic
    if source is None:
        place(header, geometry)
    header.check_fix(logger=_SILENT)
    # Without an affine of its own the image has the header's.
    image_class(labels.T, None, header).to_filename(path)


def place(header: Any, geometry: VolumeGeometry) -> None:
    """Set the qform and the sform of a header; of sheared axes the qform holds the nearest right angles."""
    code = SCANNER_CODE if geometry.is_placed else UNKNOWN_CODE
    affine = RAS_TO_LPS @ geometry.affine
    header.set_zooms(geometry.spacing)
    header.set_qform(affine, code, strip_shears=True)
    header.set_sform(affine, code)
    header.set_xyzt_units("mm")
