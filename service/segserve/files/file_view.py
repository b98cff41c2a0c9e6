"""A stored file as a pile of slices of one size, whatever it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segserve.errors import BadInput
from segserve.files.frames import Frames
from segserve.files.open_file import open_frames, open_volume
from segserve.files.volume_slices import VolumeSlices
from segserve.types import FileKind, FileLimits, FileRecord, Size


@dataclass(frozen=True)
class FileView:
    """axis: that a volume is cut along, 0 for its slices as stored. window: see `files.volume_slices.VolumeSlices`."""

    file_id: str
    axis: int = 0
    window: tuple[float, float] | None = None


KIND_NAMES = {FileKind.VIDEO: "video", FileKind.FRAMES: "stack of frames"}


def check_window(record: FileRecord, window: tuple[float, float] | None) -> None:
    """Raises BadInput where the file is seen as it is."""
    if window is not None and record.kind is not FileKind.VOLUME:
        raise BadInput(
            f"A {KIND_NAMES[record.kind]} has no window: it is stretched from its least to its greatest value.",
            field="params.window",
            remedy="Leave it out, or send the volume as NIfTI, NRRD or MetaImage.",
        )


def view_shape(record: FileRecord, axis: int) -> tuple[int, Size]:
    """How many slices there are along an axis, and their size. Raises BadInput where it cannot be cut so."""
    if record.kind is FileKind.PICTURES:
        raise BadInput(
            "The file holds pictures of several sizes.",
            field="input.file_id",
            remedy="Send a video, a volume, or pictures of one size; or ask for kind 'batch'.",
        )
    if axis and record.kind is not FileKind.VOLUME:
        raise BadInput(
            f"A {KIND_NAMES[record.kind]} has no axis {axis}: it can be cut into its own frames alone.",
            field="params.axis",
            remedy="Leave it out, or send the volume as NIfTI, NRRD or MetaImage.",
        )
    edges = [record.count, record.size.height, record.size.width]
    count = edges.pop(axis)
    return count, Size(*edges)


@contextmanager
def open_view(
    record: FileRecord, path: Path, limits: FileLimits, axis: int, window: tuple[float, float] | None
) -> Iterator[Frames]:
    """Raises BadInput, TooLarge, MissingDependency. Blocks."""
    if record.kind is FileKind.VOLUME:
        with open_volume(path, record.format, limits) as volume:
            yield VolumeSlices(volume.voxels(), axis, window)
        return
    frames = open_frames(path, record.format, limits)
    try:
        yield frames
    finally:
        frames.close()
