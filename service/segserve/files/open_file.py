"""Open a file of a known format: as frames, or as a volume of voxels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segserve.files.frames import Frames, NormalisedFrames
from segserve.files.tiff_stack import TiffStack
from segserve.files.video import DEMUXERS, VideoFrames
from segserve.files.volume import Volume
from segserve.files.volume_format import SUFFIX_BY_FORMAT
from segserve.files.zip_archive import PictureArchive
from segserve.types import FileLimits


def open_frames(path: Path, file_format: str, limits: FileLimits) -> Frames:
    """Open a video, a zip of pictures or a TIFF. The caller closes it.

    Raises BadInput, TooLarge, MissingDependency.
    """
    if file_format in DEMUXERS:
        return VideoFrames(path, file_format, limits.max_frame_pixels)
    if file_format == "zip":
        return NormalisedFrames(PictureArchive(path, limits.max_mb, limits.max_frame_pixels))
    return NormalisedFrames(TiffStack(path, limits.max_frame_pixels))


@contextmanager
def open_volume(path: Path, file_format: str, limits: FileLimits) -> Iterator[Volume]:
    """Open a volume while the block runs. Raises BadInput, TooLarge, MissingDependency."""
    itk_path = path
    if file_format in SUFFIX_BY_FORMAT:  # ITK chooses its reader by the name's suffix
        itk_path = path.with_name(path.name + SUFFIX_BY_FORMAT[file_format])
        itk_path.hardlink_to(path)
    volume: Volume | None = None
    try:
        volume = Volume(itk_path, file_format, limits.max_mb, limits.max_voxels)
        yield volume
    finally:
        if volume is not None:
            volume.close()
        if itk_path is not path:
            itk_path.unlink()
