"""The JSON of POST /v1/similar: more objects like the examples."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from segserve.similar.options import MAX_EXAMPLES, MAX_OBJECTS, MAX_ROUNDS, SimilarOptions
from segserve.wire.schemas.common import Hints, Id, ImageId, StrictBody, Tolerance, check_tolerance
from segserve.wire.schemas.objects import FORMAT_DESCRIPTION, ObjectOut, ResultFormat
from segserve.wire.schemas.prompts import MAX_IMAGE_POINTS, PromptIn, check_total_points

# A point takes 3 values and its label 1; the rest of an example takes up to 20.
MAX_SIMILAR_VALUES = 4 * MAX_IMAGE_POINTS + 24 * MAX_EXAMPLES

DEFAULTS = SimilarOptions()

Share = Annotated[float, Field(ge=0, le=1)]


class SimilarParamsIn(StrictBody):
    """What counts as similar."""

    min_likeness: float = Field(
        DEFAULTS.min_likeness,
        ge=-1,
        le=1,
        description="objects that are less like the examples are left out; 1 is as like as the examples themselves, 0"
        " as like as the image on average",
    )
    max_size_ratio: float = Field(
        DEFAULTS.max_size_ratio,
        ge=1,
        le=100,
        description="objects whose area is so many times larger than the largest example, or smaller than the"
        " smallest, are left out",
    )
    min_score: Share = Field(
        DEFAULTS.min_score, description="masks with a lower predicted IoU are left out, 0 to 1"
    )
    max_objects: int = Field(
        DEFAULTS.max_objects, ge=1, le=MAX_OBJECTS, description="the search ends with so many objects"
    )
    rounds: int = Field(
        DEFAULTS.rounds,
        ge=1,
        le=MAX_ROUNDS,
        description="times that the image is searched; from the second on what was found counts as examples too",
    )
    include_examples: bool = Field(
        DEFAULTS.include_examples, description="answer the examples too, before what was found"
    )

    def to_options(self) -> SimilarOptions:
        return SimilarOptions(**self.model_dump())


class SimilarIn(StrictBody):
    """Find more objects like the examples."""

    max_values = MAX_SIMILAR_VALUES

    image_id: ImageId = Field(description="the image to search")
    model: str | None = Field(None, max_length=64, description="the service's default model if left out")
    examples: Annotated[
        list[PromptIn],
        Field(
            min_length=1,
            max_length=MAX_EXAMPLES,
            fail_fast=True,
            description="one object each. A mask_id, mask or logits alone is the object; with points or a box it is"
            f" refined first, as in POST /v1/segment. At most {MAX_IMAGE_POINTS} points together",
        ),
        AfterValidator(check_total_points),
    ]
    example_image_id: Id | None = Field(
        None, description="the image that the examples are on; image_id if left out"
    )
    params: SimilarParamsIn = Field(SimilarParamsIn(), description="what counts as similar")
    format: ResultFormat = Field(ResultFormat.RLE, description=FORMAT_DESCRIPTION)
    tolerance: Tolerance = None

    @model_validator(mode="after")
    def _check_tolerance(self) -> Self:
        check_tolerance(self.tolerance, self.format)
        return self


class SimilarObjectOut(ObjectOut):
    """One object like the examples."""

    likeness: float = Field(
        description="1 is as like the examples as they are themselves, 0 as the image on average"
    )
    example: bool = Field(description="the object is one of the examples")


class SimilarOut(BaseModel):
    """Objects like the examples, in the formats rle and polygon."""

    image_id: str = Field(description="the image that was searched")
    model: str = Field(description="the model that was used")
    width: int = Field(description="of the image, in pixels")
    height: int = Field(description="of the image, in pixels")
    objects: list[SimilarObjectOut] = Field(
        description="the examples if they were asked for, then by descending likeness; the n-th object, from 1, has the"
        " value n in label maps"
    )
    hints: Hints = []
