"""The instances that a volume's slices came from, for results that refer to them, such as DICOM SEG.

`FileReaders.read_source_slices` returns them for a stored file whose format is "dicom": one `SourceSlice` for each
slice of the volume (or each frame), in the order of slices, of the series and the point in time that the file's
options take. `SourceSlice.frame_number` is from 1, as DICOM counts, and None for an instance with one frame: a
reference to it has no Referenced Frame Number. Slices of a Siemens mosaic share an instance and have `tile` set: they
cannot be referred to one by one. All texts come from the file and are bounded, not trusted.
"""

from dataclasses import dataclass

# Slices that one answer of a reader holds.
SLICES_PER_ANSWER = 200
MAX_UID_CHARS = 64


@dataclass(frozen=True)
class SourceSlice:
    """`SourceSlice` refers to the image that one slice is.

    frame_number: from 1; None where the instance has one frame.
    position: of the centre of the first pixel, mm; None where the file has none.
    tile: (row, column) of the first pixel in a mosaic, else None.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    frame_number: int | None
    position: tuple[float, float, float] | None
    tile: tuple[int, int] | None
