"""The JSON of POST /v1/automatic: one body for each method, told apart by `method`."""

from typing import Literal

from pydantic import ConfigDict, Field, RootModel

from segserve.models.bundle import AisEntry
from segserve.wire.schemas import ResultFormat, Strict


class WholeImageIn(Strict):
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


class AutomaticIn(RootModel[AisIn]):
    """Find all objects of an image."""
