"""The JSON of a label volume that was read on the grid of a stored volume."""

from pydantic import BaseModel, Field

from segserve.wire.schemas.prompts import Rle


class LabelOut(BaseModel):
    """One object on one slice."""

    object_id: int = Field(description="the label, or the number of the segment; the same on all slices")
    name: str | None = Field(description="the segment's label in a DICOM SEG; null in other formats")
    mask: Rle = Field(description="COCO run lengths, of a slice")
    box: list[int] = Field(description="x0, y0, x1, y1 of the mask")
    area: int = Field(description="pixels")


class LabelSliceOut(BaseModel):
    """The objects of one slice."""

    slice: int = Field(description="index along the axis, from 0")
    objects: list[LabelOut] = Field(description="by ascending object_id")


class LabelsOut(BaseModel):
    """The objects of a label volume, slice by slice."""

    axis: int = Field(description="the array axis along which slices are numbered")
    width: int = Field(description="of a slice, in pixels")
    height: int = Field(description="of a slice, in pixels")
    slices: list[LabelSliceOut] = Field(description="those that have objects, in their order")
