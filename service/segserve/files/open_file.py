"""Open a file of a known format: as frames, or as a volume of voxels.

The service calls `file_readers.py`, which runs this in a sandboxed process.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from segserve.errors import MissingDependency
from segserve.files.dicom.source_instances import encode_source_series
from segserve.files.frames import Frames, NormalisedFrames
from segserve.files.tiff_stack import TiffStack
from segserve.files.video import VideoFrames
from segserve.files.video_format import DEMUXERS
from segserve.files.volume import Volume
from segserve.files.volume_format import DICOM_SERIES, SUFFIX_BY_FORMAT
from segserve.files.zip_archive import PictureArchive
from segserve.images.image_source import ImageSource
from segserve.images.open_any_image import open_any_image
from segserve.sandbox.confine import allow_memory
from segserve.types import FileLimits, FileOptions, UInt8

if TYPE_CHECKING:
    from segserve.files.dicom.dicom_file import DicomVolume

# Some formats take memory for their pixels as soon as a picture is opened: WebP for two canvases. It is used only when
# a picture is decoded.
OPENING_BYTES_PER_PIXEL = 8


def open_frames(
    path: Path, file_format: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> Frames:
    """Open a video, a zip of pictures, a TIFF, or DICOM that is no volume. The caller closes it.

    Raises BadInput, TooLarge, MissingDependency.
    """
    if file_format == DICOM_SERIES:
        dicom = import_dicom()
        frames: Frames = dicom.DicomFrames(dicom.DicomFile(path, limits, options), limits)
        return frames
    if file_format in DEMUXERS:
        return VideoFrames(path, file_format, limits.max_frame_pixels)
    allow_memory(OPENING_BYTES_PER_PIXEL * limits.max_frame_pixels, used=0)
    if file_format == "zip":
        return NormalisedFrames(PictureArchive(path, limits.max_mb, limits.max_frame_pixels))
    return NormalisedFrames(TiffStack(path, limits.max_frame_pixels))


def open_picture(path: Path, page: int, max_pixels: int, max_banded_pixels: int) -> ImageSource:
    """Open a picture of any format that is read, and check its header. Raises as `open_any_image` does."""
    return open_any_image(path.open("rb"), page, max_pixels, max_banded_pixels)


@contextmanager
def open_volume(
    path: Path, file_format: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> "Iterator[Volume | DicomVolume]":
    """Open a volume while the block runs. Raises BadInput, TooLarge, MissingDependency."""
    if file_format == DICOM_SERIES:
        dicom = import_dicom()
        with closing(dicom.DicomVolume(dicom.DicomFile(path, limits, options), limits)) as dicom_volume:
            yield dicom_volume
        return
    with TemporaryDirectory() as folder:
        itk_path = path
        if file_format in SUFFIX_BY_FORMAT:  # ITK chooses its reader by the name's suffix
            itk_path = Path(folder) / f"volume{SUFFIX_BY_FORMAT[file_format]}"
            itk_path.symlink_to(path.absolute())
        with closing(Volume(itk_path, file_format, limits.max_mb, limits.max_voxels)) as volume:
            yield volume


def read_source_series(path: Path, limits: FileLimits, options: FileOptions) -> UInt8:
    """Return the `SourceSeries` of a DICOM file, encoded. Raises BadInput, TooLarge, MissingDependency."""
    dicom = import_dicom()
    with closing(dicom.DicomFile(path, limits, options)) as file:
        return np.frombuffer(encode_source_series(file.source_series()), np.uint8)


def import_dicom() -> Any:
    """Return the module that reads DICOM. Raises MissingDependency."""
    try:
        from segserve.files.dicom import dicom_file
    except ImportError:
        raise MissingDependency("pydicom", "volumes", "Reading DICOM") from None
    return dicom_file
