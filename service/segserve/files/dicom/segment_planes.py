"""The segments of a DICOM SEG (PS3.3, C.8.20) as flat masks at their places in space.

A SEG stores a frame for each segment on each slice where it is, and leaves out the others. `FileReaders.read_segments`
returns what a sandboxed process has read. It comes from the file, so `parse_segment_planes` checks it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

# Far more than a SEG of a whole body has: a hundred segments on a thousand slices.
MAX_PLANES = 500_000
MAX_SEGMENT = 65_535
MAX_LABEL_CHARS = 64

Number = Annotated[float, Field(allow_inf_nan=False)]
Segment = Annotated[int, Field(ge=1, le=MAX_SEGMENT)]


@dataclass(frozen=True)
class SegmentPlane:
    """`SegmentPlane` places one mask in space.

    position: of the centre of the first pixel, mm. orientation: direction cosines of a row, then of a column.
    pixel_spacing: mm from row to row, and from column to column.
    """

    segment: Segment
    position: tuple[Number, Number, Number]
    orientation: tuple[Number, Number, Number, Number, Number, Number]
    pixel_spacing: tuple[Annotated[Number, Field(gt=0)], Annotated[Number, Field(gt=0)]]


@dataclass(frozen=True)
class SegmentPlanes:
    """`SegmentPlanes` are the places of all masks, in the order of the masks.

    rows, columns: of each mask. names: of segments, those that have one.
    """

    rows: Annotated[int, Field(ge=1, le=65_535)]
    columns: Annotated[int, Field(ge=1, le=65_535)]
    planes: Annotated[tuple[SegmentPlane, ...], Field(min_length=1, max_length=MAX_PLANES)]
    names: Mapping[Segment, Annotated[str, Field(max_length=MAX_LABEL_CHARS)]]

    @property
    def packed_shape(self) -> tuple[int, int, int]:
        """The shape of all masks [N, rows, bytes], eight pixels of a row in a byte, the first one highest."""
        return len(self.planes), self.rows, -(-self.columns // 8)


_ADAPTER = TypeAdapter(SegmentPlanes)


def encode_segment_planes(planes: SegmentPlanes) -> bytes:
    return _ADAPTER.dump_json(planes)


def parse_segment_planes(data: bytes) -> SegmentPlanes | None:
    """Return what `encode_segment_planes` encoded, or None where it did not."""
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError:
        return None
