"""The JSON of an image's objects: what POST /v1/automatic, /v1/instances, /v1/similar and /v1/semantic answer."""

from enum import StrEnum

from pydantic import BaseModel, Field


class ResultFormat(StrEnum):
    """How the objects of a whole image are written."""

    PNG = "png"  # the label map, 16-bit
    TIFF = "tiff"  # the label map
    NPY = "npy"  # the label map, as numpy saves it
    OVERLAY = "overlay"  # the image with the objects drawn on it in colour, as PNG
    COCO = "coco"  # COCO JSON
    RLE = "rle"  # objects with COCO's compressed run lengths
    POLYGON = "polygon"  # objects with GeoJSON outlines


class ObjectOut(BaseModel):
    """One object of an image."""

    mask: dict[str, object] = Field(description="in the format of the request")
    box: list[int] = Field(description="x0, y0, x1, y1 of the mask")
    area: int = Field(description="pixels")
    score: float | None
    category: str | None = Field(serialization_alias="class")
    model_box: list[float] | None = Field(
        None,
        description="x0, y0, x1, y1 as the model answered it, if it answers boxes; the mask need not fill it",
    )


class ScaleOut(BaseModel):
    """The scale at which the model saw the image."""

    scale: float = Field(description="pixels of the model's input for each pixel of the image")
    object_size: float | None = Field(
        description="diameter of typical objects in pixels of the image, if known"
    )
    reason: str = Field(description="why it was chosen")


class ObjectsOut(BaseModel):
    """All objects of an image, in the formats rle and polygon."""

    image_id: str
    model: str
    width: int
    height: int
    scale: ScaleOut | None = Field(None, description="where it was requested or estimated")
    objects: list[ObjectOut] = Field(description="the n-th object, from 1, has the value n in label maps")


class CocoOut(BaseModel):
    """A COCO data set of one image (cocodataset.org, "Data format")."""

    images: list[dict[str, object]]
    categories: list[dict[str, object]]
    annotations: list[dict[str, object]]
