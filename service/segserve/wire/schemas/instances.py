"""The JSON of POST /v1/instances: objects of known classes, by Mask R-CNN."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from segserve.instances.segmenter import InstanceOptions
from segserve.wire.schemas.common import ImageId, StrictBody, Tolerance, check_tolerance
from segserve.wire.schemas.objects import FORMAT_DESCRIPTION, ResultFormat

MAX_OBJECTS = 1000  # Mask R-CNN proposes this many regions
MAX_CLASSES = 1000

ClassName = Annotated[str, Field(max_length=64)]


class InstancesIn(StrictBody):
    """A field that is left out has the model's own default; if the import changed nothing, 0.5 for all thresholds and
    100 objects."""

    image_id: ImageId
    model: str | None = Field(
        None, max_length=64, description="a model of kind instances; the service's default model if left out"
    )
    score_threshold: float | None = Field(
        None, ge=0, le=1, description="objects with this score or a lower one are left out"
    )
    nms_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="NMS: of two objects of a class whose boxes have a higher IoU, the better one stays",
    )
    mask_threshold: float | None = Field(
        None, gt=0, lt=1, description="pixels of an object have at least this probability"
    )
    max_objects: int | None = Field(
        None, ge=1, le=MAX_OBJECTS, description="only the objects with the highest scores are kept"
    )
    classes: list[ClassName] | None = Field(
        None,
        min_length=1,
        max_length=MAX_CLASSES,
        fail_fast=True,
        description="names of the classes to find, as GET /v1/models/{model} lists them; all if left out",
        examples=[["person", "dog"]],
    )
    format: ResultFormat = Field(ResultFormat.RLE, description=FORMAT_DESCRIPTION)
    tolerance: Tolerance = None

    @model_validator(mode="after")
    def _check_tolerance(self) -> Self:
        check_tolerance(self.tolerance, self.format)
        return self

    def to_options(self) -> InstanceOptions:
        return InstanceOptions(
            self.score_threshold,
            self.nms_threshold,
            self.mask_threshold,
            self.max_objects,
            None if self.classes is None else tuple(self.classes),
        )
