"""The JSON of a batch job: one operation on each of many images."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from segserve.wire.schemas.base_job import BaseJobIn
from segserve.wire.schemas.common import Id, StrictBody
from segserve.wire.schemas.prompts import ImagePrompts

MAX_IMAGES = 100_000

OperationName = Literal["embed", "segment", "automatic", "similar", "semantic", "instances"]
Name = Annotated[str, Field(min_length=1, max_length=512)]


class BatchInputIn(StrictBody):
    """The images: one of image_ids, file_id and root."""

    image_ids: list[Id] = Field(
        [], max_length=MAX_IMAGES, fail_fast=True, description="as POST /v1/images answered them"
    )
    names: list[Name] = Field(
        [],
        max_length=MAX_IMAGES,
        fail_fast=True,
        description="your names of image_ids, in the same order; results carry them",
    )
    file_id: Id | None = Field(None, description="a zip of pictures, as POST /v1/files answered it")
    root: Id | None = Field(
        None, description="name of a folder or bucket that the operator has set up on the server"
    )
    folder: str = Field("", max_length=1024, description="a folder in root; all pictures below it are taken")

    @model_validator(mode="after")
    def check_consistent(self) -> Self:
        if sum([bool(self.image_ids), self.file_id is not None, self.root is not None]) != 1:
            raise ValueError("send one of image_ids, file_id and root")
        if self.names and len(self.names) != len(self.image_ids):
            raise ValueError(
                f"{len(self.image_ids)} images need as many names, or none, got {len(self.names)}"
            )
        if self.folder and self.root is None:
            raise ValueError("folder needs root, which is missing")
        return self


class BatchParamsIn(StrictBody):
    """The operation, and what it needs."""

    operation: OperationName = Field(
        description="embed: compute the embeddings before somebody clicks; the others do what their routes do"
    )
    options: dict[str, Any] = Field(
        {},
        description="fields of the operation's route, except image_id, model, prompts and format",
        examples=[{"method": "ais"}],
    )
    prompts: dict[Id, ImagePrompts] = Field(
        {}, max_length=MAX_IMAGES, description="prompts of the operation segment, by image_id or by name"
    )


class BatchIn(BaseJobIn):
    """One operation on each of many images."""

    kind: Literal["batch"] = Field(description="batch")
    input: BatchInputIn = Field(description="the images")
    params: BatchParamsIn = Field(description="the operation, and what it needs")
