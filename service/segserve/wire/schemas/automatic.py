"""The JSON of POST /v1/automatic: all objects of an image. Each method has a body of its own."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from segserve.automatic.image_scale import ScaleRequest
from segserve.models.manifest import AisEntry, AmgEntry
from segserve.wire.schemas.common import ImageId, StrictBody, Tolerance, check_tolerance
from segserve.wire.schemas.discriminated_body import DiscriminatedBody
from segserve.wire.schemas.objects import FORMAT_DESCRIPTION, ResultFormat

# At a smaller one the longest side that an image may have is less than a pixel.
MIN_SCALE = 1 / 65_536


class WholeImageIn(StrictBody):
    """The fields that all methods share."""

    image_id: ImageId
    model: str | None = Field(None, max_length=64, description="the service's default model if left out")
    format: ResultFormat = Field(ResultFormat.PNG, description=FORMAT_DESCRIPTION)
    tolerance: Tolerance = None
    object_size: float | None = Field(
        None,
        ge=1,
        le=65_535,
        description="diameter of typical objects in pixels of the image; the scale follows from it",
    )
    scale: float | None = Field(
        None,
        ge=MIN_SCALE,
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

    @model_validator(mode="after")
    def _check_tolerance(self) -> Self:
        check_tolerance(self.tolerance, self.format)
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


class ModelsMethodIn(WholeImageIn):
    """The model's own method: ais where it has an automatic decoder, else amg."""

    method: None = Field(None, description="left out")
    params: dict[str, Any] = Field({}, description="those of the model's own method")


def get_method(body: Any) -> Any:
    """Return the tag of the body's method. body: a mapping, or one of the bodies."""
    method = body.get("method") if isinstance(body, Mapping) else getattr(body, "method", None)
    return MODELS_METHOD if method is None else method


MODELS_METHOD = "the model's"


class AutomaticIn(
    DiscriminatedBody[
        Annotated[
            Annotated[AisIn, Tag("ais")]
            | Annotated[AmgIn, Tag("amg")]
            | Annotated[ModelsMethodIn, Tag(MODELS_METHOD)],
            Discriminator(get_method),
        ]
    ]
):
    """Find all objects of an image."""

    discriminator = "method"
