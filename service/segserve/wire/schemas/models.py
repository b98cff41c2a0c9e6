"""The JSON of /v1/models."""

from typing import Literal

from pydantic import BaseModel, Field

from segserve.jobs.kinds.job_requests import EngineName
from segserve.models.manifest import ModelKind, PromptKind, Subject


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
    prompts: list[PromptKind] = Field(
        description="the prompts that a promptable model is trained for: points, boxes; it answers others too, and"
        " badly. Empty for other models"
    )
    engines: list[EngineName] = Field(
        description="how the model can follow objects through videos and volumes, the best first: memory, SAM 2's own;"
        " projection. Empty for other models"
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


class GraphOut(BaseModel):
    """A file of a decoder."""

    name: str = Field(description="its file is GET /v1/models/{model}/decoder/NAME")
    bytes: int = Field(description="size of the file")
    sha256: str = Field(description="of the file, and its ETag")


class DecoderOut(BaseModel):
    """The fast decoder of a promptable model, to run it elsewhere."""

    model: str = Field(description="names the model in requests")
    digest: str = Field(description="of the model; embeddings of another digest do not fit")
    kind: ModelKind = Field(
        description="sam or sam2: they differ in the order of points and in the choice of masks"
    )
    input_size: int = Field(description="edge of the square that points are scaled to, in pixels")
    resize: Literal["pad", "stretch"] = Field(
        description="how the image fills that square: pad at the bottom and right, or stretch each side"
    )
    low_res: int = Field(description="edge of the low-res logits")
    masks: list[int] = Field(
        description="mask tokens of the decoder: 0 is the single mask, 1 to 3 are candidates"
    )
    mask_threshold: float = Field(description="logits above it are of the mask")
    fold_below_points: int = Field(
        description="prompts with fewer points, padding and the corners of a box included, run fast_decoder.onnx,"
        " others fast_decoder_many.onnx"
    )
    graphs: list[GraphOut] = Field(description="ONNX files")
