"""The JSON of /v1/models."""

from pydantic import BaseModel, Field


class ModelOut(BaseModel):
    """A model, and what it can do."""

    name: str
    kind: str
    architecture: str
    input_size: int | None = Field(description="edge of the square that a promptable model takes, in pixels")
    low_res: int | None = Field(description="edge of a promptable model's low-res logits")
    automatic: list[str] = Field(
        description="the methods of POST /v1/automatic that the model can do: ais, amg"
    )
    classes: list[str] | None = Field(
        None,
        description="classes of a semantic or instances model; the n-th, from 1, has the value n in class maps",
    )
    description: str
    licence: str
    source: str
    digest: str
    loaded: bool
    default: bool


class ModelsOut(BaseModel):
    """All models."""

    models: list[ModelOut]
