"""View any stored file (video, stack or volume) as slices of one size."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.files.file_readers import FileReaders
from segserve.files.frames import Frames
from segserve.files.volume_slices import VolumeSlices, choose_intensity_window
from segserve.types import FileKind, FileRecord, Size, UInt8


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


def check_window(
    record: FileRecord, window: tuple[float, float] | None, field: str = "params.window"
) -> None:
    """Raise BadInput where an intensity window is requested of a file that has none."""
    if window is not None and record.kind is not FileKind.VOLUME:
        raise BadInput(
            f"A {KIND_NAMES[record.kind]} has no window: it is stretched from its minimum to its maximum.",
            field=field,
            remedy="Leave it out, or send the volume as NIfTI, NRRD or MetaImage.",
        )


def view_shape(
    record: FileRecord, axis: int, *, axis_field: str = "params.axis", file_field: str = "input.file_id"
) -> tuple[int, Size]:
    """Return the number of slices along an axis, and their size.

    axis_field, file_field: what an error names.

    Raises BadInput where the file cannot be cut along that axis.
    """
    if record.kind is FileKind.PICTURES:
        raise BadInput(
            "The file holds pictures of several sizes.",
            field=file_field,
            remedy="Send a video, a volume, or pictures of one size; or ask for kind 'batch'.",
        )
    if axis and record.kind is not FileKind.VOLUME:
        raise BadInput(
            f"A {KIND_NAMES[record.kind]} has no axis {axis}: it can only be cut into its frames.",
            field=axis_field,
            remedy="Leave it out, or send the volume as NIfTI, NRRD or MetaImage.",
        )
    sides = [record.count, record.size.height, record.size.width]
    count = sides.pop(axis)
    return count, Size(*sides)


def list_axes(record: FileRecord) -> Sequence[int]:
    """Return the axes along which a file can be cut: none for pictures of several sizes."""
    return range({FileKind.VOLUME: 3, FileKind.PICTURES: 0}.get(record.kind, 1))


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


class FrameSource(Protocol):
    """`FrameSource` reads frames of an open file, along any axis of it. Use it in one thread at a time."""

    def read(self, view: FileView, index: int) -> UInt8:
        """Return frame `index` of a view, RGB [H, W, 3]: the same as `open_view` reads."""
        ...


class _VolumeSource:
    def __init__(self, voxels: NDArray[Any], window: tuple[float, float] | None) -> None:
        self._voxels, self._window = voxels, window or choose_intensity_window(voxels)

    def read(self, view: FileView, index: int) -> UInt8:
        return VolumeSlices(self._voxels, view.axis, view.window or self._window).read(index)


class _FramesSource:
    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def read(self, view: FileView, index: int) -> UInt8:
        return self._frames.read(index)


@contextmanager
def open_frame_source(record: FileRecord, path: Path, readers: FileReaders) -> Iterator[FrameSource]:
    """Open a file for all of its views while the block runs. Blocks. Raises as `open_view` does."""
    if record.kind is FileKind.VOLUME:
        with readers.open_volume(path, record.format, record.options) as volume:
            yield _VolumeSource(volume.voxels(), volume.window)
        return
    with open_view(record, path, readers, 0, None) as frames:
        yield _FramesSource(frames)
