"""The JSON of POST /v1/instances."""

from typing import Annotated

from pydantic import Field

from segserve.instances.segmenter import InstanceOptions
from segserve.wire.schemas.common import ResultFormat, StrictBody

MAX_OBJECTS = 1000  # as many regions as Mask R-CNN looks at
MAX_CLASSES = 1000

ClassName = Annotated[str, Field(max_length=64)]


class InstancesIn(StrictBody):
    """What is left out is as the model has it; as imported that is 0.5 for all thresholds and 100 objects."""

    image_id: str = Field(max_length=128)
    model: str | None = Field(
        None, max_length=64, description="of kind instances; the service's default model if left out"
    )
    score_threshold: float | None = Field(None, ge=0, le=1, description="objects have a higher score")
    nms_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of two objects of a class whose boxes' IoU is higher the better one stays",
    )
    mask_threshold: float | None = Field(
        None, gt=0, lt=1, description="pixels of an object have at least this probability"
    )
    max_objects: int | None = Field(None, ge=1, le=MAX_OBJECTS, description="the best ones")
    classes: list[ClassName] | None = Field(
        None,
        min_length=1,
        max_length=MAX_CLASSES,
        fail_fast=True,
        description="names of those to look for, as GET /v1/models/{model} lists them; all if left out",
        examples=[["person", "dog"]],
    )
    format: ResultFormat = ResultFormat.RLE

    def build(self) -> InstanceOptions:
        return InstanceOptions(
            self.score_threshold,
            self.nms_threshold,
            self.mask_threshold,
            self.max_objects,
            None if self.classes is None else tuple(self.classes),
        )
