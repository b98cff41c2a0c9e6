"""The JSON of /v1/models."""

from pydantic import BaseModel, Field

from segserve.models.manifest import ModelKind, Subject


class ModelOut(BaseModel):
    """A model, and what it can do."""

    name: str = Field(description="names the model in requests")
    kind: ModelKind = Field(
        description="sam, sam2: masks for prompts; semantic: a class for every pixel; instances: objects of known"
        " classes"
    )
    architecture: str = Field(description="the network, in words")
    input_size: int | None = Field(description="edge of the square that a promptable model takes, in pixels")
    low_res: int | None = Field(description="edge of a promptable model's low-res logits")
    automatic: list[str] = Field(
        description="the methods of POST /v1/automatic that the model can do: ais, amg"
    )
    classes: list[str] | None = Field(
        None,
        description="classes of a semantic or instances model; the n-th, from 1, has the value n in class maps",
    )
    suits: list[Subject] = Field(
        description="what the model is for: " + ", ".join(Subject) + "; empty where nobody has said it"
    )
    description: str = Field(description="what the model is good for")
    licence: str = Field(description="under which its weights were published")
    source: str = Field(description="where its weights come from")
    digest: str = Field(description="changes with the model's files; embeddings of another digest do not fit")
    loaded: bool = Field(description="the model is in memory; the first request to any other loads it")
    default: bool = Field(description="the model of requests that name none")


class ModelsOut(BaseModel):
    """All models."""

    models: list[ModelOut] = Field(description="by name")
