"""The file that a job worked on, as the frames it saw."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from segserve.files.frames import Frames
from segserve.files.probe import open_frames, opened_volume
from segserve.files.slices import Slices
from segserve.files.volume import Geometry
from segserve.types import FileKind, FileLimits, FileRecord


class Source(BaseModel):
    """What a job's request, as it is kept, says of its file. axis: of a volume's [Z, Y, X], that slices are cut along.
    window: what of its values becomes 0 and 255; None: as `Slices` finds."""

    file_id: str
    axis: int = 0
    window: tuple[float, float] | None = None

    def pixel(self, record: FileRecord) -> tuple[float, float]:
        """A frame's pixel's height and width: of a volume in millimetres."""
        spacing = record.spacing or (1.0, 1.0, 1.0)
        height, width = (each for axis, each in enumerate(spacing) if axis != self.axis)
        return height, width

    @contextmanager
    def frames(self, path: Path, record: FileRecord, limits: FileLimits) -> Iterator[Frames]:
        """Raises BadInput, TooLarge, MissingDependency."""
        if record.kind is FileKind.VOLUME:
            with opened_volume(path, record.format, limits) as volume:
                yield Slices(volume.voxels(), self.axis, self.window)
            return
        frames = open_frames(path, record.format, limits)
        try:
            yield frames
        finally:
            frames.close()


def geometry(path: Path, record: FileRecord, limits: FileLimits) -> Geometry:
    """Of a volume; of a stack, which says nothing of it, pixels of 1 mm. Raises as `Source.frames`."""
    if record.kind is FileKind.VOLUME:
        with opened_volume(path, record.format, limits) as volume:
            return volume.geometry
    size = record.size.width, record.size.height, record.count
    return Geometry(size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
