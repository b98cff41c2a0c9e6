"""The JSON of the REST API: what is taken, checked, and turned into the types used inside."""

import base64
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from segserve.decode.prompt_encoding import check_mask_size
from segserve.errors import BadInput
from segserve.masks import rle
from segserve.types import Bool, Box, Float32, Prompt, Select, Size

MAX_PROMPTS = 256
MAX_POINTS = 512
MAX_EDGE = 65_536


class MaskFormat(StrEnum):
    RLE = "rle"  # COCO's compressed run lengths
    POLYGON = "polygon"  # GeoJSON with holes
    PNG = "png"  # 1-bit, base64
    LOGITS = "logits"  # low-res, float16, base64


class ResultFormat(StrEnum):
    """What comes back of a whole image."""

    PNG = "png"  # the label map, 16-bit
    TIFF = "tiff"  # the label map
    NPY = "npy"  # the label map, as numpy saves it
    OVERLAY = "overlay"  # a coloured PNG, to look at
    COCO = "coco"  # COCO JSON
    RLE = "rle"  # objects with COCO's compressed run lengths
    POLYGON = "polygon"  # objects with GeoJSON outlines


class StrictBody(BaseModel):
    """Takes what the schema says and nothing that could be turned into it: "10" is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


# Checking stops at the first fault in a list: nobody reads a thousand, and listing them takes seconds.
Point = tuple[FiniteFloat, FiniteFloat]
Edge = Annotated[int, Field(ge=1, le=MAX_EDGE)]


class Rle(StrictBody):
    """COCO run lengths: size is [height, width]."""

    size: tuple[Edge, Edge]
    counts: str = Field(max_length=4_000_000)


class Logits(StrictBody):
    """Low-res logits: size is [height, width], data base64 of little-endian float16 in row order."""

    size: tuple[Edge, Edge]
    data: str = Field(max_length=8_000_000)


class BasePromptIn(StrictBody):
    """One object. Coordinates are pixels of the original image, (x, y), origin top left."""

    points: list[Point] = Field([], max_length=MAX_POINTS, fail_fast=True, examples=[[[120, 80]]])
    labels: list[Literal[0, 1]] | None = Field(
        None,
        max_length=MAX_POINTS,
        fail_fast=True,
        description="1: part of the object, 0: not; all 1 if left out",
        examples=[[1]],
    )
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        None, description="x0, y0, x1, y1"
    )
    mask: Rle | None = Field(None, description="a binary mask of the image's size, to refine")

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if self.labels is not None and len(self.labels) != len(self.points):
            raise ValueError(f"{len(self.points)} points need as many labels, got {len(self.labels)}")
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError("the box is empty or reversed: send x0, y0, x1, y1 with x0 < x1 and y0 < y1")
        priors = [prior for prior in self.priors() if prior is not None]
        if len(priors) > 1:
            raise ValueError("send one of mask_id, mask and logits, not several")
        if not self.points and self.box is None and not priors:
            raise ValueError("the prompt is empty: send points, a box, or a mask to refine")
        return self

    def priors(self) -> list[object]:
        return [self.mask]

    def marks(self, field: str, size: Size) -> Prompt:
        """Raises BadInput about `field` where a mask cannot be read. size: of the image."""
        points = np.array(self.points, np.float32).reshape(-1, 2)
        labels = np.ones(len(points), np.int64) if self.labels is None else np.array(self.labels, np.int64)
        box = None if self.box is None else Box(*self.box)
        mask = None if self.mask is None else read_rle(self.mask, size, f"{field}.mask")
        return Prompt(points, labels, box, mask=mask)


class PromptIn(BasePromptIn):
    """One object. Coordinates are pixels of the original image, (x, y), origin top left."""

    mask_id: str | None = Field(None, max_length=128, description="a mask answered before, to refine")
    logits: Logits | None = Field(None, description="low-res logits, to refine")

    def priors(self) -> list[object]:
        return [self.mask_id, self.mask, self.logits]

    def build(self, index: int, size: Size) -> Prompt:
        """Raises BadInput where a mask or logits cannot be read. size: of the image."""
        field = f"prompts.{index}"
        logits = None if self.logits is None else read_logits(self.logits, f"{field}.logits")
        return replace(self.marks(field, size), mask_id=self.mask_id, logits=logits)


def read_rle(mask: Rle, size: Size, field: str) -> Bool:
    """[H, W] bool. The size is compared before anything of that size is made."""
    check_mask_size(mask.size, size, field)
    return rle.decode(mask.counts, size, field)


def read_logits(logits: Logits, field: str) -> Float32:
    height, width = logits.size
    try:
        data = base64.b64decode(logits.data, validate=True)
    except ValueError as error:  # binascii.Error, and text that is not ASCII
        raise BadInput(
            f"The logits are not base64: {error}.",
            field=f"{field}.data",
            remedy="Send base64 of float16 values.",
        ) from None
    if len(data) != 2 * height * width:
        raise BadInput(
            f"{height} x {width} float16 logits are {2 * height * width} bytes, got {len(data)}.",
            field=f"{field}.data",
            remedy="Send back the logits that a request with format 'logits' answered.",
        )
    array = np.frombuffer(data, "<f2").reshape(height, width).astype(np.float32)
    if not np.isfinite(array).all():
        raise BadInput("The logits are not all finite.", field=f"{field}.data", remedy="Send finite values.")
    return array


class FetchImageIn(StrictBody):
    """An image to fetch, from hosts that the operator allows."""

    url: str = Field(max_length=4096, examples=["https://example.org/cells.png"])


class SegmentIn(StrictBody):
    image_id: str = Field(max_length=128)
    model: str | None = Field(None, max_length=64, description="the service's default model if left out")
    prompts: list[PromptIn] = Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)
    format: MaskFormat = MaskFormat.RLE
    select: Select = Field(
        Select.BEST, description="best: highest score; all; first: the first of the three candidates"
    )
    multimask: bool | None = Field(
        None,
        description="three candidates or one; null: three for a single positive point without box or mask",
    )


class ImageOut(BaseModel):
    image_id: str
    width: int
    height: int


class MaskOut(BaseModel):
    mask: dict[str, object] | str = Field(description="in the format that was asked for")
    score: float = Field(description="predicted IoU")
    box: list[int] = Field(description="x0, y0, x1, y1 of the mask")
    area: int = Field(description="pixels")
    mask_id: str | None


class PromptMasksOut(BaseModel):
    masks: list[MaskOut]


class SegmentOut(BaseModel):
    image_id: str
    model: str
    width: int
    height: int
    results: list[PromptMasksOut] = Field(description="one per prompt, in order")


class ObjectOut(BaseModel):
    mask: dict[str, object] = Field(description="in the format that was asked for")
    box: list[int] = Field(description="x0, y0, x1, y1 of the mask")
    area: int = Field(description="pixels")
    score: float | None
    category: str | None = Field(serialization_alias="class")
    model_box: list[float] | None = Field(
        None,
        description="x0, y0, x1, y1 as the model drew it, where it draws boxes; the mask need not fill it",
    )


class ObjectsOut(BaseModel):
    image_id: str
    model: str
    width: int
    height: int
    objects: list[ObjectOut] = Field(description="the position of one, from 1, is its id in label maps")


class CocoOut(BaseModel):
    """A COCO data set of one image (cocodataset.org, "Data format")."""

    images: list[dict[str, object]]
    categories: list[dict[str, object]]
    annotations: list[dict[str, object]]


class ModelOut(BaseModel):
    name: str
    kind: str
    architecture: str
    input_size: int | None = Field(description="edge of the square that a promptable model sees")
    low_res: int | None = Field(description="edge of a promptable model's low-res logits")
    automatic: list[str] = Field(description="methods by which it finds all objects of an image")
    classes: list[str] | None = Field(
        None, description="of a semantic or instances model; the n-th, from 1, is n in class maps"
    )
    description: str
    licence: str
    source: str
    digest: str
    loaded: bool
    default: bool


class ModelsOut(BaseModel):
    models: list[ModelOut]


class ReadyOut(BaseModel):
    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


class ProblemOut(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    remedy: str | None = None
    errors: list[dict[str, str]] | None = None
