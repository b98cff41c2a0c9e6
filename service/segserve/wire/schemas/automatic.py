"""The JSON of POST /v1/automatic: one body for each method, told apart by `method`."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from segserve.models.manifest import AisEntry, AmgEntry
from segserve.wire.schemas.common import ResultFormat, StrictBody
from segserve.wire.schemas.discriminated_body import DiscriminatedBody


class WholeImageIn(StrictBody):
    """What every method takes."""

    image_id: str = Field(max_length=128)
    model: str | None = Field(None, max_length=64, description="the service's default model if left out")
    format: ResultFormat = ResultFormat.PNG


class AisParamsIn(AisEntry):
    """What is left out is the model's own default."""

    model_config = ConfigDict(strict=True)


class AisIn(WholeImageIn):
    """Seeded watershed on the maps of the model's automatic decoder."""

    method: Literal["ais"]
    params: AisParamsIn = AisParamsIn()


class AmgParamsIn(AmgEntry):
    """What is left out is the model's own default."""

    model_config = ConfigDict(strict=True)


class AmgIn(WholeImageIn):
    """A grid of clicks, and of all their masks those worth keeping, as segment-anything's generator does it.
    Objects have the predicted IoU as score and may overlap; in label maps the smaller one shows."""

    method: Literal["amg"]
    params: AmgParamsIn = AmgParamsIn()


class AutomaticIn(DiscriminatedBody[Annotated[AisIn | AmgIn, Field(discriminator="method")]]):
    """Find all objects of an image."""

    discriminator = "method"
