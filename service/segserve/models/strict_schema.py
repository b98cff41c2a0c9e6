"""What manifests are made of."""

from pydantic import BaseModel, ConfigDict


class StrictSchema(BaseModel):
    """Takes what it names and nothing else, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
