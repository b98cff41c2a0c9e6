"""Open a file of a known format: as frames, or as a volume of voxels.

The service calls `file_readers.py`, which runs this in a sandboxed process.
"""

import importlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segserve.errors import MissingDependency
from segserve.files.colour_slices import ColourSlices
from segserve.files.detect_format import detect_format
from segserve.files.dicom.segment_planes import encode_segment_planes
from segserve.files.dicom.source_instances import encode_source_series
from segserve.files.frames import Frames, NormalisedFrames
from segserve.files.microscopy.microscope_file import MicroscopeStack, open_series_picture
from segserve.files.microscopy.open_microscope_file import MICROSCOPE_FORMATS, open_microscope_file
from segserve.files.picture_archive import PictureArchive
from segserve.files.tiff_stack import TiffStack
from segserve.files.video import VideoFrames
from segserve.files.video_format import DEMUXERS
from segserve.files.volume_file import VolumeFile, open_volume_file
from segserve.files.volume_format import DICOM_SERIES, VOLUME_ZIP, is_volume_format
from segserve.files.volume_zip import open_zipped_volume
from segserve.images import formats
from segserve.images.formats import detect_image_format
from segserve.images.image_source import ImageSource
from segserve.images.open_any_image import open_any_image
from segserve.sandbox.confine import allow_memory
from segserve.types import FileLimits, FileOptions, FrameIndex, UInt8

if TYPE_CHECKING:
    from segserve.files.dicom.dicom_file import DicomVolume

# Some formats take memory for their pixels as soon as a picture is opened: WebP for two canvases. It is used only when
# a picture is decoded.
OPENING_BYTES_PER_PIXEL = 8


def open_frames(
    path: Path,
    file_format: str,
    limits: FileLimits,
    options: FileOptions = FileOptions(),
    index: FrameIndex = FrameIndex(),
) -> Frames:
    """Open a video, a zip of pictures, a TIFF, a file of a microscope, a volume of colours, or DICOM that is no volume.

    The caller closes it.

    index: as probing the file has found it.

    Raises BadInput, TooLarge, MissingDependency.
    """
    if file_format == DICOM_SERIES:
        dicom = import_dicom()
        frames: Frames = dicom.DicomFrames(dicom.DicomFile(path, limits, options), limits)
        return frames
    if file_format in DEMUXERS:
        return VideoFrames(path, file_format, limits.max_frame_pixels, index.decoded_count)
    if is_volume_format(file_format):
        return NormalisedFrames(ColourSlices(open_other_volume(path, file_format, limits, options)))
    allow_memory(OPENING_BYTES_PER_PIXEL * limits.max_frame_pixels, used=0)
    if file_format in MICROSCOPE_FORMATS:
        return NormalisedFrames(open_microscope_stack(path, file_format, limits, options))
    if file_format == "zip":
        return NormalisedFrames(
            PictureArchive(path, limits.max_mb, limits.max_frame_pixels, index.left_out_entries)
        )
    return NormalisedFrames(TiffStack(path, limits.max_frame_pixels))


def open_microscope_stack(
    path: Path, file_format: str, limits: FileLimits, options: FileOptions
) -> MicroscopeStack:
    """Open a series of a file of a microscope. The caller closes it. Raises as `open_frames` does."""
    file = open_microscope_file(path, MICROSCOPE_FORMATS[file_format], limits.max_mb)
    return MicroscopeStack(file, options, limits.max_frame_pixels)


def open_picture(path: Path, page: int, max_pixels: int, max_banded_pixels: int) -> ImageSource:
    """Open a picture of any format that is read, and check its header.

    Raises as `open_any_image` does, and MissingDependency.
    """
    stream = path.open("rb")
    image_format = detect_image_format(stream)
    if image_format in MICROSCOPE_FORMATS.values():
        stream.close()
        file = open_microscope_file(path, image_format)
        return open_series_picture(file, page, max_pixels, max_banded_pixels)
    if image_format is formats.DICOM:
        stream.close()
        source: ImageSource = import_dicom("dicom_picture").open_dicom_picture(path, page, max_pixels)
        return source
    return open_any_image(stream, page, max_pixels, max_banded_pixels)


@contextmanager
def open_volume(
    path: Path, file_format: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> "Iterator[VolumeFile | DicomVolume]":
    """Open a volume while the block runs. Raises BadInput, TooLarge, MissingDependency."""
    if file_format == DICOM_SERIES:
        dicom = import_dicom()
        with closing(dicom.DicomVolume(dicom.DicomFile(path, limits, options), limits)) as dicom_volume:
            yield dicom_volume
        return
    with closing(open_other_volume(path, file_format, limits, options)) as volume:
        yield volume


def open_other_volume(path: Path, file_format: str, limits: FileLimits, options: FileOptions) -> VolumeFile:
    """Open a volume that is not DICOM. The caller closes it. Raises as `open_volume` does."""
    if file_format == VOLUME_ZIP:
        return open_zipped_volume(path, limits, options)
    return open_volume_file(path, file_format, limits, options)


def read_source_series(path: Path, limits: FileLimits, options: FileOptions) -> UInt8:
    """Return the `SourceSeries` of a DICOM file, encoded. Raises BadInput, TooLarge, MissingDependency."""
    dicom = import_dicom()
    with closing(dicom.DicomFile(path, limits, options)) as file:
        return np.frombuffer(encode_source_series(file.source_series()), np.uint8)


def read_segments(path: Path, limits: FileLimits) -> tuple[UInt8, UInt8] | None:
    """Return the `SegmentPlanes` of a DICOM SEG, encoded, and its masks; None for files of other formats.

    Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency.
    """
    if detect_format(path) != DICOM_SERIES:
        return None
    planes, masks = import_dicom("segmentation_file").read_segments(path, limits)
    return np.frombuffer(encode_segment_planes(planes), np.uint8), masks


def import_dicom(module: str = "dicom_file") -> Any:
    """Return a module that reads DICOM. Raises MissingDependency."""
    try:
        return importlib.import_module(f"segserve.files.dicom.{module}")
    except ImportError:
        raise MissingDependency("pydicom", "volumes", "Reading DICOM") from None
