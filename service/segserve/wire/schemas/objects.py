"""The JSON of an image's objects: what POST /v1/automatic, /v1/instances, /v1/similar and /v1/semantic answer."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from segserve.wire.schemas.common import Hints
from segserve.wire.schemas.prompts import Rle


class ResultFormat(StrEnum):
    """How the objects of a whole image are written."""

    PNG = "png"  # the label map, 16-bit
    TIFF = "tiff"  # the label map
    NPY = "npy"  # the label map, as numpy saves it
    OVERLAY = "overlay"  # the image with the objects drawn on it in colour, as PNG
    COCO = "coco"  # COCO JSON
    RLE = "rle"  # objects with COCO's compressed run lengths
    POLYGON = "polygon"  # objects with GeoJSON outlines


FORMAT_DESCRIPTION = (
    "png, tiff, npy: the label map as a file, 0 is background and n the n-th object; overlay: the image with the"
    " objects drawn on it, as PNG; coco, rle, polygon: JSON"
)


class PolygonOut(BaseModel):
    """A GeoJSON Polygon; without rings where the mask is empty."""

    type: Literal["Polygon"] = Field(description="of the geometry")
    coordinates: list[list[list[float]]] = Field(
        description="the outer ring, then its holes; a ring is closed; a position is x, y in pixels of the image"
    )


class MultiPolygonOut(BaseModel):
    """A GeoJSON MultiPolygon: a mask of several parts."""

    type: Literal["MultiPolygon"] = Field(description="of the geometry")
    coordinates: list[list[list[list[float]]]] = Field(description="the coordinates of each Polygon")


class ObjectOut(BaseModel):
    """One object of an image."""

    mask: Rle | PolygonOut | MultiPolygonOut = Field(
        description="format rle: COCO run lengths; format polygon: GeoJSON"
    )
    box: list[int] = Field(description="x0, y0, x1, y1 of the mask")
    area: int = Field(description="pixels")
    score: float | None = Field(
        description="how good the model thinks the object is, 0 to 1; null if it does not"
    )
    category: str | None = Field(serialization_alias="class", description="name of its class, if it has one")
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

    image_id: str = Field(description="the image")
    model: str = Field(description="the model that was used")
    width: int = Field(description="of the image, in pixels")
    height: int = Field(description="of the image, in pixels")
    scale: ScaleOut | None = Field(None, description="where it was requested or estimated")
    objects: list[ObjectOut] = Field(description="the n-th object, from 1, has the value n in label maps")
    hints: Hints = []


class CocoImageOut(BaseModel):
    """An image of a COCO data set."""

    id: int = Field(description="what image_id of an annotation refers to")
    file_name: str = Field(description="the image_id of the service")
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")


class CocoCategoryOut(BaseModel):
    """A class of a COCO data set."""

    id: int = Field(description="what category_id of an annotation refers to")
    name: str = Field(description="name of the class")


class CocoAnnotationOut(BaseModel):
    """An object of a COCO data set."""

    id: int = Field(description="the object's number, from 1: its value in label maps")
    image_id: int = Field(description="id of its image in the data set")
    category_id: int = Field(description="id of its class in the data set")
    segmentation: Rle = Field(description="its mask")
    bbox: list[float] = Field(description="x, y, width, height of the mask")
    area: int = Field(description="pixels")
    iscrowd: Literal[0] = Field(description="always 0: it is one object")
    score: float | None = Field(None, description="how good the model thinks the object is, 0 to 1")


class CocoOut(BaseModel):
    """A COCO data set of one image (cocodataset.org, "Data format")."""

    images: list[CocoImageOut] = Field(description="the image")
    categories: list[CocoCategoryOut] = Field(
        description="the classes; one, object, for a model that knows none"
    )
    annotations: list[CocoAnnotationOut] = Field(description="one for each object")
