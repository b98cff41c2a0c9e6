"""Open a file of a known format: its frames, or its voxels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segserve.files import video, volume
from segserve.files.frames import Frames, NormalisedFrames
from segserve.files.tiff_stack import TiffStack
from segserve.files.video import VideoFrames
from segserve.files.volume import Volume
from segserve.files.zip_archive import PictureArchive
from segserve.types import FileLimits


def open_frames(path: Path, form: str, limits: FileLimits) -> Frames:
    """Of a video or a stack. The caller closes it. Raises BadInput, TooLarge, MissingDependency."""
    if form in video.DEMUXERS:
        return VideoFrames(path, form, limits.pixels)
    if form == "zip":
        return NormalisedFrames(PictureArchive(path, limits.mb, limits.pixels))
    return NormalisedFrames(TiffStack(path, limits.pixels))


@contextmanager
def open_volume(path: Path, form: str, limits: FileLimits) -> Iterator[Volume]:
    """As `open_frames`."""
    named = path
    if form in volume.SUFFIX_BY_FORMAT:  # ITK goes by names
        named = path.with_name(path.name + volume.SUFFIX_BY_FORMAT[form])
        named.hardlink_to(path)
    found: Volume | None = None
    try:
        found = Volume(named, form, limits.mb, limits.voxels)
        yield found
    finally:
        if found is not None:
            found.close()
        if named is not path:
            named.unlink()
