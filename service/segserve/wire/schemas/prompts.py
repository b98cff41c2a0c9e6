"""The JSON of prompts: points, boxes, and masks or logits to refine."""

import base64
from dataclasses import replace
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from segserve.decode.check_prompt import check_mask_size
from segserve.errors import BadInput
from segserve.masks import rle
from segserve.types import Bool, Box, Float32, Prompt, Size
from segserve.wire.schemas.common import StrictBody

MAX_PROMPTS = 256  # of an image
MAX_POINTS = 512  # of a prompt
MAX_IMAGE_POINTS = 4096  # of all prompts on an image together: decoding them takes as long as 256 clicks
MAX_EDGE_PX = 65_536  # of an image or mask

# fail_fast on lists: nobody reads a thousand faults, and listing them takes seconds.
Point = tuple[FiniteFloat, FiniteFloat]
Edge = Annotated[int, Field(ge=1, le=MAX_EDGE_PX)]


class Rle(StrictBody):
    """COCO run lengths: size is [height, width]."""

    size: tuple[Edge, Edge] = Field(description="height, width in pixels")
    counts: str = Field(max_length=4_000_000, description="COCO's compressed run lengths, column by column")


class Logits(StrictBody):
    """Low-res logits: size is [height, width], data is base64 of little-endian float16 in row order."""

    size: tuple[Edge, Edge] = Field(description="height, width")
    data: str = Field(max_length=8_000_000, description="base64 of little-endian float16, row by row")


class BasePromptIn(StrictBody):
    """One object. Coordinates are pixels of the original image, (x, y), origin top left."""

    points: list[Point] = Field(
        [], max_length=MAX_POINTS, fail_fast=True, description="x, y of each click", examples=[[[413, 190]]]
    )
    labels: list[Literal[0, 1]] | None = Field(
        None,
        max_length=MAX_POINTS,
        fail_fast=True,
        description="1: the point is on the object, 0: it is not; all 1 if left out",
        examples=[[1]],
    )
    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        None, description="x0, y0, x1, y1"
    )
    mask: Rle | None = Field(None, description="a binary mask of the image's size, to refine")

    @model_validator(mode="after")
    def check_consistent(self) -> Self:
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
        """The fields that hold a mask to refine; at most one may be set."""
        return [self.mask]

    def to_prompt(self, field: str, size: Size) -> Prompt:
        """Convert to the prompt that the decoder takes. Blocks where there is a mask.

        field: path of this prompt in the request, for errors.
        size: of the image.

        Raises BadInput where a mask or logits cannot be read.
        """
        return Prompt(
            np.array(self.points, np.float32).reshape(-1, 2),
            np.ones(len(self.points), np.int64) if self.labels is None else np.array(self.labels, np.int64),
            None if self.box is None else Box(*self.box),
            mask=None if self.mask is None else decode_rle(self.mask, size, f"{field}.mask"),
        )


class PromptIn(BasePromptIn):
    """One object. Coordinates are pixels of the original image, (x, y), origin top left."""

    mask_id: str | None = Field(
        None, max_length=128, description="the mask_id of an earlier answer, to refine its mask"
    )
    logits: Logits | None = Field(None, description="the low-res logits of an earlier answer, to refine")

    def priors(self) -> list[object]:
        return [self.mask_id, self.mask, self.logits]

    def to_prompt(self, field: str, size: Size) -> Prompt:
        logits = None if self.logits is None else decode_logits(self.logits, f"{field}.logits")
        return replace(super().to_prompt(field, size), mask_id=self.mask_id, logits=logits)


def check_total_points(prompts: list[PromptIn]) -> list[PromptIn]:
    """Raises ValueError if the prompts have too many points together."""
    points = sum(len(prompt.points) for prompt in prompts)
    if points > MAX_IMAGE_POINTS:
        raise ValueError(f"the prompts have {points} points together, the maximum is {MAX_IMAGE_POINTS}")
    return prompts


# The prompts of a request on one image.
ImagePrompts = Annotated[
    list[PromptIn],
    Field(
        min_length=1,
        max_length=MAX_PROMPTS,
        fail_fast=True,
        description=f"at most {MAX_IMAGE_POINTS} points together",
    ),
    AfterValidator(check_total_points),
]


def decode_rle(mask: Rle, size: Size, field: str) -> Bool:
    """Decode a mask to [H, W] bool. Its size is checked before an array of that size is created.

    Raises BadInput about `field`.
    """
    check_mask_size(mask.size, size, field)
    return rle.decode(mask.counts, size, field)


def decode_logits(logits: Logits, field: str) -> Float32:
    """Decode logits to [h, w] float32. Raises BadInput about `field`."""
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
