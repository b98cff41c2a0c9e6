"""The instances that a volume's slices came from, for results that refer to them, such as DICOM SEG.

`FileReaders.read_source_series` returns a `SourceSeries` for a stored file whose format is "dicom": of the series and
the point in time that the file's options take. What the sandboxed process answers comes from the file, so
`parse_source_series` checks it.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

MAX_UID_CHARS = 64
MAX_TEXT_CHARS = 200
# Of the answer about a series of half a million slices.
MAX_ANSWER_BYTES = 1 << 28
# Attributes of the patient and the study that a result of the same study repeats (PS3.3, C.7.1 to C.7.4).
ATTRIBUTES = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Modality",
)  # fmt: skip

Uid = Annotated[str, Field(max_length=MAX_UID_CHARS)]
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARS)]
Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True)
class SourceSlice:
    """`SourceSlice` refers to the image that one slice is.

    frame_number: from 1, as DICOM counts; None where the instance has one frame: a reference to it has no Referenced
    Frame Number.
    position: of the centre of the first pixel, mm; None where the file has none.
    tile: (row, column) of the first pixel in a Siemens mosaic, else None. Slices of a mosaic share an instance, and
    cannot be referred to one by one.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    frame_number: Annotated[int, Field(ge=1)] | None
    position: tuple[Number, Number, Number] | None
    tile: tuple[int, int] | None


@dataclass(frozen=True)
class SourceSeries:
    """`SourceSeries` is the series that a volume, or a run of frames, came from.

    slices: one for each slice or frame, in their order.
    attributes: texts of ATTRIBUTES by keyword, those that the first instance has; several values with "\\" between.
    """

    study_uid: Uid
    series_uid: Uid
    frame_of_reference_uid: Uid
    attributes: dict[Text, Text]
    slices: tuple[SourceSlice, ...]


_ADAPTER = TypeAdapter(SourceSeries)


def encode_source_series(series: SourceSeries) -> bytes:
    return _ADAPTER.dump_json(series)


def parse_source_series(data: bytes) -> SourceSeries | None:
    """Return what `encode_source_series` encoded, or None where it did not."""
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError:
        return None
