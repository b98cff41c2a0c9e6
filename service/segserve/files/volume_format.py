"""Detect volume formats (NIfTI, Analyze, NRRD, MetaImage, MGH, DICOM) by content."""

import struct
from typing import BinaryIO

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.volume_headers.metaimage import is_metaimage_head
from segserve.files.volume_headers.mgh import is_mgh_head
from segserve.files.volume_headers.nifti import NIFTI1_BYTES, NIFTI2_BYTES, is_nifti_head
from segserve.files.volume_headers.nrrd import MAGIC as NRRD_MAGIC
from segserve.files.volume_headers.packed_array import MAGIC as PACKED_ARRAY_MAGIC
from segserve.files.voxel_data import BZIP2_MAGIC, GZIP_MAGIC, read_head

# The format of a DICOM file, or of a zip with such files.
DICOM_SERIES = "dicom"
# The format of a zip with volumes, or with a header and its voxels.
VOLUME_ZIP = "volume_zip"
# Formats whose header and voxels are in one file.
SINGLE_FILE_FORMATS = {"nifti", "nifti.gz", "nrrd", "metaimage", "mgh", "mgz", "packed_array"}
VOLUME_FORMATS = {*SINGLE_FILE_FORMATS, DICOM_SERIES, VOLUME_ZIP}

# Bytes that headers of volumes in text must end within.
MAX_HEADER_BYTES = 65_536
# How files begin that hold volumes, or are kept beside volumes, and are not read.
UNREAD_FORMATS = {
    b"CDF\1": "MINC 1 (NetCDF)",
    b"CDF\2": "MINC 1 (NetCDF)",
    b"\x89HDF\r\n\x1a\n": "HDF5 or MINC 2",
    b"MATRIX7": "ECAT",
    b"# === DATA DESCRIPTION FILE": "Philips PAR/REC",
    b"TRACK\0": "TrackVis",
    b"mrtrix tracks": "MRtrix tracks",
    b"mrtrix image": "MRtrix image",
    BZIP2_MAGIC: "A file compressed by bzip2",
    b"\x28\xb5\x2f\xfd": "A file compressed by Zstandard",
    b"\xfd7zXZ\0": "A file compressed by xz",
}


def is_volume_format(file_format: str) -> bool:
    """Return whether `detect_format`'s answer is that of a volume."""
    return file_format in VOLUME_FORMATS


def detect_volume_format(file: BinaryIO) -> str | None:
    """Return one of SINGLE_FILE_FORMATS by the file's content, or None.

    Raises UnsupportedFormat for a format of volumes that is not read, BadInput for the header of a pair.
    """
    file.seek(0)
    head = file.read(MAX_HEADER_BYTES)
    if head.startswith(GZIP_MAGIC):
        return detect_in_gzip(file)
    if head.startswith(NRRD_MAGIC):
        return "nrrd"
    if head.startswith(PACKED_ARRAY_MAGIC):
        return "packed_array"
    if is_nifti_head(head):
        return "nifti"
    if is_analyze_head(head):
        raise lone_header_error()
    if is_metaimage_head(head):
        return "metaimage"
    if is_mgh_head(head):
        return "mgh"
    for magic, name in UNREAD_FORMATS.items():
        if head.startswith(magic):
            raise UnsupportedFormat(
                f"{name} is not read.",
                field="file",
                remedy="Save the volume as NIfTI (.nii or .nii.gz), for example with nibabel or SimpleITK.",
            )
    return None


def detect_in_gzip(file: BinaryIO) -> str | None:
    """Return the format of a volume that gzip has compressed, or None. Raises BadInput for the header of a pair."""
    head = read_head(file, "gzip", NIFTI2_BYTES)
    if is_nifti_head(head):
        return "nifti.gz"
    if is_analyze_head(head):
        raise lone_header_error()
    return "mgz" if is_mgh_head(head) else None


def is_analyze_head(head: bytes) -> bool:
    """Return whether a file is the header of an Analyze pair, which has no magic: by its sizes. head: all of it."""
    if not NIFTI1_BYTES <= len(head) < NIFTI2_BYTES:
        return False
    sizes = [struct.unpack_from(order + "i", head)[0] for order in "<>"]
    axes = [struct.unpack_from(order + "h", head, 40)[0] for order in "<>"]
    return any(size == NIFTI1_BYTES and 1 <= count <= 7 for size, count in zip(sizes, axes, strict=True))


def lone_header_error() -> BadInput:
    return BadInput(
        "This is the header of an Analyze volume; its voxels are in another file.",
        field="file",
        remedy="Send the .hdr and the .img in one zip, or save the volume as .nii.",
    )
