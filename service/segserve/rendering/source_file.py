"""The file that a job worked on, as the slices it saw."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from segserve.files.file_view import FileView, open_view
from segserve.files.frames import Frames
from segserve.files.open_file import open_volume
from segserve.files.volume import VolumeGeometry
from segserve.types import FileKind, FileLimits, FileRecord

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class StoredView(BaseModel):
    """What a job was asked, as it is kept: of all that, what it looked at."""

    view: FileView


@dataclass(frozen=True)
class SourceFile:
    """The file at hand."""

    view: FileView
    record: FileRecord
    path: Path
    limits: FileLimits

    @property
    def pixel_size(self) -> tuple[float, float]:
        """A slice's pixel's height and width: of a volume in millimetres."""
        spacing = self.record.spacing or (1.0, 1.0, 1.0)
        height, width = (each for axis, each in enumerate(spacing) if axis != self.view.axis)
        return height, width

    def open_frames(self) -> AbstractContextManager[Frames]:
        """Raises BadInput, TooLarge, MissingDependency."""
        return open_view(self.record, self.path, self.limits, self.view.axis, self.view.window)

    def read_geometry(self) -> VolumeGeometry:
        """Of a volume; of a stack, which says nothing of it, voxels of 1 mm. Raises as `frames`."""
        if self.record.kind is FileKind.VOLUME:
            with open_volume(self.path, self.record.format, self.limits) as volume:
                return volume.geometry
        size = self.record.size.width, self.record.size.height, self.record.count
        return VolumeGeometry(size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY_DIRECTION)
