"""The base class and the types that all request bodies share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(max_length=128)]


class StrictBody(BaseModel):
    """A request body that accepts only the fields and types of its schema: "10" is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)
