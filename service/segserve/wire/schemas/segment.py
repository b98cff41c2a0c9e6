"""The JSON of POST /v1/segment: masks for points, boxes and masks."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, Field, model_validator

from segserve.types import Select
from segserve.wire.schemas.common import Hints, ImageId, StrictBody, Tolerance, check_tolerance
from segserve.wire.schemas.objects import MultiPolygonOut, PolygonOut
from segserve.wire.schemas.prompts import MAX_IMAGE_POINTS, MAX_PROMPTS, ImagePrompts, Logits, Rle

# A point takes 3 values and its label 1; the rest of a prompt takes up to 20.
MAX_SEGMENT_VALUES = 4 * MAX_IMAGE_POINTS + 24 * MAX_PROMPTS


class MaskFormat(StrEnum):
    """How the masks of an answer are written."""

    RLE = "rle"  # COCO's compressed run lengths
    POLYGON = "polygon"  # GeoJSON with holes
    PNG = "png"  # 1-bit, base64
    LOGITS = "logits"  # low-res, float16, base64


class SegmentIn(StrictBody):
    """Masks for prompts on an image."""

    max_values = MAX_SEGMENT_VALUES

    image_id: ImageId
    model: str | None = Field(None, max_length=64, description="the service's default model if left out")
    prompts: ImagePrompts
    format: MaskFormat = Field(
        MaskFormat.RLE,
        description="rle: COCO run lengths; polygon: GeoJSON; png: base64 of a 1-bit PNG; logits: low-res logits,"
        " which a later prompt takes back",
    )
    tolerance: Tolerance = None
    select: Select = Field(
        Select.BEST,
        description="best: by score, stability, and how well the mask fits the box; all; first: the first of the three"
        " candidates",
    )
    multimask: bool | None = Field(
        None,
        description="three candidates or one; null: three for a single positive point without box or mask, otherwise"
        " one, and the best of all four where that one suits the prompt badly",
    )
    raw: bool = Field(
        False,
        description="the model's own masks, the best by score alone; otherwise parts that nothing marks are removed,"
        " and small holes are filled",
    )

    @model_validator(mode="after")
    def _check_tolerance(self) -> Self:
        check_tolerance(self.tolerance, self.format)
        return self


class MaskOut(BaseModel):
    """One mask of a prompt."""

    mask: Rle | PolygonOut | MultiPolygonOut | Logits | str = Field(
        description="in the format of the request: rle, polygon (two kinds), logits, png (base64)"
    )
    score: float = Field(
        description="predicted IoU, from 0 to 1; with `raw` as the model says it, which may be beyond"
    )
    box: list[int] = Field(description="x0, y0, x1, y1 of the mask")
    area: int = Field(description="pixels")
    removed_parts: int = Field(description="number of parts of the model's mask that were removed")
    filled_holes: int = Field(description="number of holes of the model's mask that were filled")
    mask_id: str | None = Field(description="send it back to refine the mask; null while the cache is away")


class PromptMasksOut(BaseModel):
    """The masks of one prompt: one, or several candidates."""

    masks: list[MaskOut] = Field(description="one, or with select all every candidate")


class SegmentOut(BaseModel):
    """The masks of all prompts."""

    image_id: str = Field(description="the image")
    model: str = Field(description="the model that was used")
    width: int = Field(description="of the image, in pixels")
    height: int = Field(description="of the image, in pixels")
    results: list[PromptMasksOut] = Field(description="one per prompt, in order")
    hints: Hints = []
