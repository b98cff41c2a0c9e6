"""Detect the format of an uploaded file by its content, never by its name."""

from pathlib import Path
from typing import BinaryIO

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.dicom.detect_dicom import HEAD_BYTES, has_dicom, is_dicom
from segserve.files.microscopy.ome_zarr import holds_ome_zarr
from segserve.files.microscopy.open_microscope_file import MICROSCOPE_FORMATS
from segserve.files.video_format import VIDEO_HEAD_BYTES, detect_video_format, is_picture_box
from segserve.files.volume_format import DICOM_SERIES, VOLUME_ZIP, detect_volume_format
from segserve.files.volume_zip import holds_volumes
from segserve.images.formats import detect_image_format, unpack_gzip_head

ZIP_MAGIC = b"PK"
# Little- and big-endian, classic TIFF and BigTIFF.
TIFF_MAGIC = {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}
SUPPORTED_FORMATS = (
    "mp4, mov, 3gp, webm, mkv, avi, gif, ts, mpg, wmv, flv, ogv; a zip of pictures, of DICOM files or of volumes;"
    " TIFF, CZI, LIF, ND2, OME-Zarr in a zip; DICOM, NIfTI, NRRD, MetaImage, MGH"
)


def detect_format(path: Path) -> str:
    """Return "zip", "tiff", a key of MICROSCOPE_FORMATS or of `video_format.DEMUXERS`, or one of
    `volume_format.VOLUME_FORMATS`.

    Raises UnsupportedFormat, TooLarge; BadInput for the header of a volume whose voxels are in another file.
    """
    with path.open("rb") as file:
        head = read_head(file)
        if head[:2] == ZIP_MAGIC:
            if holds_ome_zarr(path):
                return "ome_zarr"
            if has_dicom(path):
                return DICOM_SERIES
            return VOLUME_ZIP if holds_volumes(path) else "zip"
        # Before TIFF: a preamble may look like one.
        if is_dicom(head) or is_dicom(unpack_gzip_head(file)):
            return DICOM_SERIES
        if head[:4] in TIFF_MAGIC:
            return "tiff"
        if (microscope_format := detect_microscope_format(file)) is not None:
            return microscope_format
        if (file_format := detect_video_format(head) or detect_volume_format(file)) is not None:
            return file_format
        raise not_a_file_error(file)


def detect_microscope_format(file: BinaryIO) -> str | None:
    """Return a key of MICROSCOPE_FORMATS for a file that is no zip, None for other files."""
    try:
        known = detect_image_format(file)
    except (BadInput, UnsupportedFormat):
        return None
    return next((name for name, image_format in MICROSCOPE_FORMATS.items() if image_format is known), None)


def read_head(file: BinaryIO) -> bytes:
    """Return the beginning of a file, by which formats are told apart."""
    file.seek(0)
    return file.read(max(HEAD_BYTES, VIDEO_HEAD_BYTES))


def not_a_file_error(file: BinaryIO) -> UnsupportedFormat:
    """Return the refusal of a file that holds no frames and no volume: it says if it is a picture."""
    try:
        name = detect_image_format(file).name
    except BadInput as error:
        if is_picture_box(read_head(file)):
            return UnsupportedFormat(
                f"The file is one picture, and no video. {error.message}",
                field="file",
                remedy="Convert it to TIFF or PNG and send it to POST /v1/images.",
            )
        return UnsupportedFormat(
            "The file is in no format that is read.",
            field="file",
            remedy=f"Send one of: {SUPPORTED_FORMATS}.",
        )
    return UnsupportedFormat(
        f"The file is one picture ({name}), no video, stack or volume.",
        field="file",
        remedy="Send it to POST /v1/images, or several in a zip.",
    )
