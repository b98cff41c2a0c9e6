"""The file that a job worked on, as the slices or frames that the job saw."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from segserve.errors import BadInput
from segserve.files.dicom.source_instances import SourceSeries
from segserve.files.file_readers import FileReaders
from segserve.files.file_view import FileView, open_view
from segserve.files.frames import Frames
from segserve.files.volume_format import DICOM_SERIES, is_volume_format
from segserve.files.volume_geometry import VolumeGeometry
from segserve.rendering.label_volume import TiffUnit
from segserve.types import FileKind, FileRecord

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class StoredObject(BaseModel):
    object_id: int
    name: str | None = None


class StoredRequest(BaseModel):
    """The part of a job's stored request that its results need: which file it worked on, how the file was cut into
    slices, and what the objects are called."""

    view: FileView
    objects: list[StoredObject] = []

    @property
    def names(self) -> dict[int, str]:
        """Return the names of the objects that have one, by object id."""
        return {item.object_id: item.name for item in self.objects if item.name}


@dataclass(frozen=True)
class SourceFile:
    """A file that is on the local disk."""

    view: FileView
    record: FileRecord
    path: Path
    readers: FileReaders

    @property
    def pixel_size(self) -> tuple[float, float]:
        """(height, width) of a slice's pixel; for a volume in millimetres."""
        spacing = self.record.spacing or (1.0, 1.0, 1.0)
        height, width = (length for axis, length in enumerate(spacing) if axis != self.view.axis)
        return height, width

    @property
    def tiff_unit(self) -> TiffUnit | None:
        """The unit in which a TIFF says the spacing: a scan's or a microscope's; None where the file has no spacing."""
        if is_volume_format(self.record.format):
            return TiffUnit.MILLIMETRE
        return TiffUnit.MICROMETRE if self.record.spacing else None

    def open_frames(self) -> AbstractContextManager[Frames]:
        """Raises BadInput, TooLarge, MissingDependency, Unavailable."""
        return open_view(self.record, self.path, self.readers, self.view.axis, self.view.window)

    def read_source_series(self) -> SourceSeries:
        """Return the instances that the slices of a DICOM volume came from.

        Raises BadInput where the file is none, and as `open_frames` does.
        """
        if self.record.format != DICOM_SERIES or self.record.kind is not FileKind.VOLUME:
            raise BadInput(
                "A DICOM SEG refers to the images of a DICOM series, and the file of the job is none.",
                field="format",
                remedy="Ask for 'nifti', 'nrrd' or 'mha'; or send the volume as DICOM.",
            )
        return self.readers.read_source_series(self.path, self.record.options)

    def read_geometry(self) -> VolumeGeometry:
        """Return the geometry of a volume, also of one of colours, or of a stack.

        A stack that does not say how far its voxels are apart gets voxels of 1 mm; see `tiff_unit`.

        Raises as `open_frames` does.
        """
        if is_volume_format(self.record.format):
            with self.readers.open_volume(self.path, self.record.format, self.record.options) as volume:
                return volume.geometry
        size = self.record.size.width, self.record.size.height, self.record.count
        z, y, x = self.record.spacing or (1.0, 1.0, 1.0)
        return VolumeGeometry(size, (x, y, z), (0.0, 0.0, 0.0), IDENTITY_DIRECTION, is_placed=False)
