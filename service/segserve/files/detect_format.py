"""Detect the format of an uploaded file by its content, never by its name."""

from pathlib import Path

from segserve.errors import UnsupportedFormat
from segserve.files import video, volume

ZIP_MAGIC = b"PK"
TIFF_MAGIC = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}  # little- and big-endian, classic and BigTIFF
SUPPORTED_FORMATS = (
    "mp4, mov, webm, avi, gif; a zip of pictures or of a DICOM series; TIFF; NIfTI, NRRD, MetaImage"
)


def detect_format(path: Path) -> str:
    """By its content. Raises UnsupportedFormat, TooLarge."""
    with path.open("rb") as file:
        head = file.read(16)
        if head[:2] == ZIP_MAGIC:
            return "dicom" if volume.has_dicom(path) else "zip"
        if head[:4] in TIFF_MAGIC:
            return "tiff"
        if (found := video.detect_video_format(head) or volume.detect_volume_format(file)) is not None:
            return found
    raise UnsupportedFormat(
        "The file is in no format that is read.", field="file", remedy=f"Send one of: {SUPPORTED_FORMATS}."
    )
