"""Open a file of a known format: as frames, or as a volume of voxels.

The service calls `file_readers.py`, which runs this in a sandboxed process.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from segserve.files.frames import Frames, NormalisedFrames
from segserve.files.tiff_stack import TiffStack
from segserve.files.video import VideoFrames
from segserve.files.video_format import DEMUXERS
from segserve.files.volume import Volume
from segserve.files.volume_format import SUFFIX_BY_FORMAT
from segserve.files.zip_archive import PictureArchive
from segserve.sandbox.confine import allow_memory
from segserve.types import FileLimits, FileOptions

# Some formats take memory for their pixels as soon as a picture is opened: WebP for two canvases. It is used only when
# a picture is decoded.
OPENING_BYTES_PER_PIXEL = 8


def open_frames(
    path: Path, file_format: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> Frames:
    """Open a video, a zip of pictures or a TIFF. The caller closes it.

    Raises BadInput, TooLarge, MissingDependency.
    """
    if file_format in DEMUXERS:
        return VideoFrames(path, file_format, limits.max_frame_pixels)
    allow_memory(OPENING_BYTES_PER_PIXEL * limits.max_frame_pixels, used=0)
    if file_format == "zip":
        return NormalisedFrames(PictureArchive(path, limits.max_mb, limits.max_frame_pixels))
    return NormalisedFrames(TiffStack(path, limits.max_frame_pixels))


@contextmanager
def open_volume(
    path: Path, file_format: str, limits: FileLimits, options: FileOptions = FileOptions()
) -> Iterator[Volume]:
    """Open a volume while the block runs. Raises BadInput, TooLarge, MissingDependency."""
    with TemporaryDirectory() as folder:
        itk_path = path
        if file_format in SUFFIX_BY_FORMAT:  # ITK chooses its reader by the name's suffix
            itk_path = Path(folder) / f"volume{SUFFIX_BY_FORMAT[file_format]}"
            itk_path.symlink_to(path.absolute())
        with closing(Volume(itk_path, file_format, limits.max_mb, limits.max_voxels)) as volume:
            yield volume
