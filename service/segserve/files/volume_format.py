"""Detect volume formats (NIfTI, NRRD, MetaImage) by content, and refuse headers that name other files.

ITK would read the voxels from whatever file a header names. Such headers are refused before ITK sees the file.
"""

import gzip
import re
import zlib
from typing import BinaryIO

from segserve.errors import BadInput

# The suffix by which ITK knows each format.
SUFFIX_BY_FORMAT = {"nifti": ".nii", "nifti.gz": ".nii.gz", "nrrd": ".nrrd", "metaimage": ".mha"}
# The format of a DICOM file, or of a zip with such files.
DICOM_SERIES = "dicom"

# Only files whose voxels follow the header; "ni1" has the voxels in a second file.
NIFTI_MAGIC = {b"n+1\0", b"n+2\0"}
# Bytes read to find the magic of NIfTI-1, at 344, or NIfTI-2, at 4.
NIFTI_HEAD_BYTES = 348
# NRRD's and MetaImage's headers must end within this many bytes.
MAX_HEADER_BYTES = 65_536


def is_volume_format(file_format: str) -> bool:
    """Return whether `detect_format`'s answer is that of a volume."""
    return file_format in SUFFIX_BY_FORMAT or file_format == DICOM_SERIES


def detect_volume_format(file: BinaryIO) -> str | None:
    """Return a key of SUFFIX_BY_FORMAT by the file's content, or None.

    Raises BadInput for a header that says that the voxels are in another file.
    """
    file.seek(0)
    head = file.read(MAX_HEADER_BYTES)
    if head[:2] == b"\x1f\x8b":
        file.seek(0)
        try:
            with gzip.open(file) as unpacked:
                return "nifti.gz" if is_nifti(unpacked.read(NIFTI_HEAD_BYTES)) else None
        except (OSError, EOFError, zlib.error):
            return None
    if is_nifti(head):
        return "nifti"
    if head.startswith(b"NRRD"):
        check_self_contained(is_nrrd_self_contained(head))
        return "nrrd"
    if re.match(rb"\s*(ObjectType|NDims)\s*=", head):
        check_self_contained(is_metaimage_self_contained(head))
        return "metaimage"
    return None


def is_nifti(head: bytes) -> bool:
    """Return whether a file that begins with `head` is NIfTI-1 or NIfTI-2 with its voxels inside."""
    return head[344:348] in NIFTI_MAGIC or head[4:8] in NIFTI_MAGIC


def is_nrrd_self_contained(head: bytes) -> bool:
    """Return whether an NRRD's header ends within `head` and names no data file."""
    header, end, _ = head.partition(b"\n\n")
    return bool(end) and not re.search(rb"(?im)^\s*data ?file\s*:", header.replace(b"\r", b"\n"))


def is_metaimage_self_contained(head: bytes) -> bool:
    """Return whether a MetaImage's header ends within `head`, with the line that says that the voxels follow.

    ITK also accepts other separators than "=", and the first of several ElementDataFile lines. So every line must have
    the form that the format's description shows.
    """
    for line in head.replace(b"\r", b"\n").split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals or not re.fullmatch(rb"\s*\w+\s*", name):
            return False
        if name.strip().lower() == b"elementdatafile":
            return name.strip() == b"ElementDataFile" and value.strip() == b"LOCAL"
    return False


def check_self_contained(is_self_contained: bool) -> None:
    """Raise BadInput unless the voxels are in the file itself."""
    if not is_self_contained:
        raise BadInput(
            "The header says that the voxels are in another file.",
            field="file",
            remedy="Save the volume as one file: .nrrd or .mha, not .nhdr or .mhd.",
        )
