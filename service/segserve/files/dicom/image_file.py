"""What the header of one DICOM file says, as far as the other modules need it."""

from dataclasses import dataclass, field
from typing import Any

from segserve.files.dicom.grayscale import LookupTable, Shading

# How frames at one position differ, in the order in which points in time are sorted; see `Frame.keys`.
KEY_NAMES = (
    "temporal position",
    "echo time",
    "b-value",
    "trigger time",
    "phase of the image type",
    "segment",
    "acquisition number",
    "acquisition time",
    "content time",
)
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """`PixelFormat` is the image pixel module: the options that pydicom's decoders take, and where the pixels are.

    at: offset of the pixel data's element in the file, or in the unpacked data set of the deflated syntax.
    """

    transfer_syntax: str
    at: int
    keyword: str
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    planar: int
    frames: int

    @property
    def is_colour(self) -> bool:
        return self.samples == 3 or self.photometric == "PALETTE COLOR"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """`ImageFile` is one file that holds an image. entry: its number in the archive.

    palette: the three tables of PALETTE COLOR.
    frame_time_ms: of a cine loop, else None.
    """

    entry: int
    name: str
    pixels: PixelFormat
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    series_number: int
    instance_number: int
    modality: str
    description: str
    is_localizer: bool
    frame_time_ms: float | None
    palette: tuple[LookupTable, LookupTable, LookupTable] | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """`Frame` is one 2-D image: of a file with one or several frames, or a tile of a Siemens mosaic.

    index: of the frame in the file, from 0.
    position: of the centre of the first pixel, mm. orientation: direction cosines of a row, then of a column.
    pixel_spacing: mm from row to row, and from column to column. All three are None where the file has none.
    slice_spacing: mm, as the header states it for slices of one series, else None.
    keys: values of KEY_NAMES, each a tuple that can be compared with those of other frames; empty where unknown.
    tile: (row, column) of the first pixel in the stored frame: of a mosaic, else None.
    stack: tells frames of one enhanced object apart that are no one volume.
    notes: sentences on what is unusual. problem: a sentence on why the frame can be part of no volume.
    """

    file: ImageFile
    index: int
    size: tuple[int, int]
    position: tuple[float, float, float] | None
    orientation: tuple[float, float, float, float, float, float] | None
    pixel_spacing: tuple[float, float] | None
    slice_spacing: float | None
    keys: tuple[Key, ...]
    shading: Shading
    tile: tuple[int, int] | None = None
    stack: str = ""
    notes: tuple[str, ...] = field(default=())
    problem: str = ""
