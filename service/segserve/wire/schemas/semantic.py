"""The JSON of POST /v1/semantic: a class for every pixel."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from segserve.semantic.options import SemanticOptions
from segserve.semantic.tta import Flips
from segserve.wire.schemas.common import ImageId, StrictBody, Tolerance, check_tolerance
from segserve.wire.schemas.objects import CocoOut, ObjectOut

MAX_CLASSES = 255  # the values of an 8-bit class map, without background

Probability = Annotated[float, Field(ge=0, le=1)]
TileEdge = Annotated[int, Field(ge=16, le=4096)]


class SemanticFormat(StrEnum):
    """How a class map is written: as `ResultFormat`, or the probabilities."""

    PNG = "png"  # the class map, 8-bit
    TIFF = "tiff"  # the class map
    NPY = "npy"  # the class map, as numpy saves it
    OVERLAY = "overlay"  # the image with the classes drawn on it in colour, as PNG
    COCO = "coco"  # COCO JSON, one annotation for each class
    RLE = "rle"  # one object for each class, with COCO's compressed run lengths
    POLYGON = "polygon"  # one object for each class, with GeoJSON outlines
    PROBABILITIES = "probabilities"  # [channels, height, width] float16, as numpy saves it


class CrfIn(StrictBody):
    """A fully connected CRF. The fields have the names of pydensecrf."""

    iterations: int = Field(5, ge=1, le=20, description="of mean field inference")
    gaussian_sxy: float = Field(
        3.0,
        ge=1,
        le=100,
        description="how far near pixels pull each other to the same class, in pixels",
    )
    bilateral_sxy: float = Field(
        80.0,
        ge=1,
        le=1000,
        description="how far pixels of a similar colour pull each other to the same class, in pixels",
    )
    bilateral_srgb: float = Field(
        13.0, ge=1, le=255, description="which difference in colour counts as similar, in grey levels"
    )


class PostprocessIn(StrictBody):
    """Steps in this order; all but the CRF work on each class by itself. A step that is left out is done as the model
    has it."""

    crf: CrfIn | None = Field(
        None, description="refines the probabilities, before thresholds; needs the service's extra 'crf'"
    )
    opening: int | None = Field(None, ge=0, le=64, description="radius of the disc in pixels; 0: no opening")
    closing: int | None = Field(None, ge=0, le=64, description="radius of the disc in pixels; 0: no closing")
    fill_holes: bool | None = Field(None, description="background enclosed by a class joins it")
    min_size: int | None = Field(
        None, ge=0, le=1 << 32, description="connected parts of fewer pixels become background"
    )
    keep_largest: bool | None = Field(None, description="only the largest connected part of each class stays")


class SemanticIn(StrictBody):
    """A class for every pixel of an image."""

    image_id: ImageId
    model: str | None = Field(
        None, max_length=64, description="the service's default semantic model if left out"
    )
    tile: tuple[TileEdge, TileEdge] | None = Field(
        None, description="height and width of the tiles that the network takes; the model's if left out"
    )
    overlap: float | None = Field(
        None,
        ge=0,
        le=0.75,
        description="overlap of neighbouring tiles, as a part of their edge; the model's if left out",
    )
    threshold: Probability | Annotated[dict[str, Probability], Field(max_length=MAX_CLASSES)] | None = Field(
        None,
        description="the probability a class needs, for all classes or by class name; of the classes that reach it "
        "the most probable is taken",
        examples=[0.5, {"nucleus": 0.3}],
    )
    tta_flips: Flips = Field(
        Flips.NONE,
        description="test-time augmentation: mirror the tiles too and average the answers; takes twice the time, "
        "with both four times",
    )
    postprocess: PostprocessIn = Field(
        default_factory=PostprocessIn, description="what is done to the probabilities and to the classes"
    )
    format: SemanticFormat = Field(
        SemanticFormat.PNG,
        description="png, tiff, npy: the class map as a file, 0 is background and n the n-th class; overlay: the image"
        " with the classes drawn on it, as PNG; coco, rle, polygon: JSON; probabilities: float16, as npy",
    )
    tolerance: Tolerance = None

    @model_validator(mode="after")
    def _check_tolerance(self) -> Self:
        check_tolerance(self.tolerance, self.format)
        return self

    def to_options(self) -> SemanticOptions:
        return SemanticOptions(
            self.tile,
            self.overlap,
            self.threshold,
            self.tta_flips,
            self.postprocess.model_dump(exclude_none=True),
            self.format is SemanticFormat.PROBABILITIES,
        )


class ClassOut(BaseModel):
    """A class of the model, and its area on the image."""

    value: int = Field(description="value of the class in class maps; 0 is background")
    name: str = Field(serialization_alias="class", description="name of the class")
    area: int = Field(description="pixels")
    fraction: float = Field(description="part of the image, 0 to 1")


class SemanticOut(BaseModel):
    """The answer in the formats rle and polygon."""

    image_id: str = Field(description="the image")
    model: str = Field(description="the model that was used")
    width: int = Field(description="of the image, in pixels")
    height: int = Field(description="of the image, in pixels")
    classes: list[ClassOut] = Field(description="all classes of the model, with their areas")
    objects: list[ObjectOut] = Field(description="one object for each class that occurs")


class SemanticCocoOut(CocoOut):
    """The answer in the format coco."""

    classes: list[ClassOut] = Field(description="all classes of the model, with their areas")
