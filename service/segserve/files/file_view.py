"""View any stored file (video, stack or volume) as slices of one size."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segserve.errors import BadInput
from segserve.files.file_readers import FileReaders
from segserve.files.frames import Frames
from segserve.files.volume_slices import VolumeSlices
from segserve.types import FileKind, FileRecord, Size


@dataclass(frozen=True)
class FileView:
    """`FileView` says how a file is cut into slices.

    axis: along which a volume is cut, 0 for its slices as stored.
    window: intensity window of a volume, see `files.volume_slices.VolumeSlices`.
    """

    file_id: str
    axis: int = 0
    window: tuple[float, float] | None = None


KIND_NAMES = {FileKind.VIDEO: "video", FileKind.FRAMES: "stack of frames"}


def check_window(record: FileRecord, window: tuple[float, float] | None) -> None:
    """Raise BadInput where an intensity window is requested of a file that has none."""
    if window is not None and record.kind is not FileKind.VOLUME:
        raise BadInput(
            f"A {KIND_NAMES[record.kind]} has no window: it is stretched from its minimum to its maximum.",
            field="params.window",
            remedy="Leave it out, or send the volume as NIfTI, NRRD or MetaImage.",
        )


def view_shape(record: FileRecord, axis: int) -> tuple[int, Size]:
    """Return the number of slices along an axis, and their size.

    Raises BadInput where the file cannot be cut along that axis.
    """
    if record.kind is FileKind.PICTURES:
        raise BadInput(
            "The file holds pictures of several sizes.",
            field="input.file_id",
            remedy="Send a video, a volume, or pictures of one size; or ask for kind 'batch'.",
        )
    if axis and record.kind is not FileKind.VOLUME:
        raise BadInput(
            f"A {KIND_NAMES[record.kind]} has no axis {axis}: it can only be cut into its frames.",
            field="params.axis",
            remedy="Leave it out, or send the volume as NIfTI, NRRD or MetaImage.",
        )
    sides = [record.count, record.size.height, record.size.width]
    count = sides.pop(axis)
    return count, Size(*sides)


@contextmanager
def open_view(
    record: FileRecord, path: Path, readers: FileReaders, axis: int, window: tuple[float, float] | None
) -> Iterator[Frames]:
    """Open the slices of a file while the block runs. Blocks.

    Raises BadInput, TooLarge, MissingDependency, Unavailable.
    """
    if record.kind is FileKind.VOLUME:
        with readers.open_volume(path, record.format, record.options) as volume:
            yield VolumeSlices(volume.voxels(), axis, window or volume.window)
        return
    frames = readers.open_frames(path, record.format, record.options, record.frame_index)
    try:
        yield frames
    finally:
        frames.close()
