"""The base class of the manifest's schemas."""

from pydantic import BaseModel, ConfigDict


class StrictSchema(BaseModel):
    """`StrictSchema` refuses fields that it does not name. Its instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)
