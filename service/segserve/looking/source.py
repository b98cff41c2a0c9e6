"""The file that a job worked on, as the frames it saw."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from segserve.files.frames import Frames
from segserve.files.probe import open_frames, opened_volume
from segserve.files.slices import Slices
from segserve.files.volume import Geometry, Volume
from segserve.types import FileKind, FileLimits, FileRecord

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class Source(BaseModel):
    """What a job's request, as it is kept, says of its file. axis: of a volume's [Z, Y, X], that slices are cut along.
    window: what of its values becomes 0 and 255; None: as `Slices` finds."""

    file_id: str
    axis: int = 0
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class SourceFile:
    """The file at hand."""

    source: Source
    record: FileRecord
    path: Path
    limits: FileLimits

    @property
    def pixel(self) -> tuple[float, float]:
        """A frame's pixel's height and width: of a volume in millimetres."""
        spacing = self.record.spacing or (1.0, 1.0, 1.0)
        height, width = (each for axis, each in enumerate(spacing) if axis != self.source.axis)
        return height, width

    @contextmanager
    def frames(self) -> Iterator[Frames]:
        """Raises BadInput, TooLarge, MissingDependency."""
        if self.record.kind is FileKind.VOLUME:
            with self._volume() as volume:
                yield Slices(volume.voxels(), self.source.axis, self.source.window)
            return
        frames = open_frames(self.path, self.record.format, self.limits)
        try:
            yield frames
        finally:
            frames.close()

    def _volume(self) -> AbstractContextManager[Volume]:
        return opened_volume(self.path, self.record.format, self.limits)

    def geometry(self) -> Geometry:
        """Of a volume; of a stack, which says nothing of it, voxels of 1 mm. Raises as `frames`."""
        if self.record.kind is FileKind.VOLUME:
            with self._volume() as volume:
                return volume.geometry
        size = self.record.size.width, self.record.size.height, self.record.count
        return Geometry(size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
