"""The JSON of POST /v1/automatic: all objects of an image. Each method has a body of its own."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from segserve.automatic.image_scale import ScaleRequest
from segserve.models.manifest import AisEntry, AmgEntry
from segserve.wire.schemas.common import ImageId, StrictBody
from segserve.wire.schemas.discriminated_body import DiscriminatedBody
from segserve.wire.schemas.objects import FORMAT_DESCRIPTION, ResultFormat


class WholeImageIn(StrictBody):
    """The fields that all methods share."""

    image_id: ImageId
    model: str | None = Field(None, max_length=64, description="the service's default model if left out")
    format: ResultFormat = Field(ResultFormat.PNG, description=FORMAT_DESCRIPTION)
    object_size: float | None = Field(
        None,
        ge=1,
        le=65_535,
        description="diameter of typical objects in pixels of the image; the scale follows from it",
    )
    scale: float | None = Field(
        None,
        gt=0,
        le=16,
        description="pixels of the model's input for each pixel of the image; estimated for models that know the size"
        " of their objects",
    )
    raw: bool = Field(
        False,
        description="the reference's own objects, in its order: background, masks that others hide, and specks too",
    )

    @model_validator(mode="after")
    def check_one_scale(self) -> Self:
        if self.object_size is not None and self.scale is not None:
            raise ValueError("send object_size or scale, not both")
        return self

    def scale_request(self) -> ScaleRequest:
        return ScaleRequest(self.object_size, self.scale)


class AisParamsIn(AisEntry):
    """A field that is left out has the model's own default."""

    model_config = ConfigDict(strict=True)


class AisIn(WholeImageIn):
    """Automatic instance segmentation: a seeded watershed on the maps of the model's automatic decoder."""

    method: Literal["ais"] = Field(description="ais")
    params: AisParamsIn = Field(AisParamsIn(), description="thresholds, smoothing and sizes")


class AmgParamsIn(AmgEntry):
    """A field that is left out has the model's own default."""

    model_config = ConfigDict(strict=True)


class AmgIn(WholeImageIn):
    """Automatic mask generation: a grid of clicks, then filters and NMS over all their masks, as in segment-anything's
    SamAutomaticMaskGenerator. The score of an object is its predicted IoU. Objects may overlap; in label maps the
    smaller one is on top."""

    method: Literal["amg"] = Field(description="amg")
    params: AmgParamsIn = Field(AmgParamsIn(), description="grid, filters, crops and NMS")


class AutomaticIn(DiscriminatedBody[Annotated[AisIn | AmgIn, Field(discriminator="method")]]):
    """Find all objects of an image."""

    discriminator = "method"
