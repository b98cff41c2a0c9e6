"""The JSON of /v1/jobs."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from segserve.jobs.engine.job import JobKind, JobState
from segserve.types import FileKind, Priority
from segserve.wire.operations.batch import OperationName
from segserve.wire.schemas.common import MAX_PROMPTS, PromptIn, StrictBody
from segserve.wire.schemas.discriminated_body import DiscriminatedBody
from segserve.wire.schemas.propagation import TrackingParamsIn, VideoParamsIn, VolumeParamsIn

MAX_IMAGES = 100_000

Id = Annotated[str, Field(max_length=128)]
Name = Annotated[str, Field(min_length=1, max_length=512)]


class BatchInputIn(StrictBody):
    """Which images: one of image_ids, file_id and root."""

    image_ids: list[Id] = Field(
        [], max_length=MAX_IMAGES, fail_fast=True, description="as POST /v1/images answered them"
    )
    names: list[Name] = Field(
        [], max_length=MAX_IMAGES, fail_fast=True, description="what you call image_ids; results name them so"
    )
    file_id: Id | None = Field(None, description="a zip of pictures, as POST /v1/files answered it")
    root: Id | None = Field(None, description="a folder or bucket that the operator has named")
    folder: str = Field("", max_length=1024, description="in root; all pictures below it")

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if sum([bool(self.image_ids), self.file_id is not None, self.root is not None]) != 1:
            raise ValueError("send one of image_ids, file_id and root")
        if self.names and len(self.names) != len(self.image_ids):
            raise ValueError(
                f"{len(self.image_ids)} images need as many names, or none, got {len(self.names)}"
            )
        if self.folder and self.root is None:
            raise ValueError("folder is one in root, which is missing")
        return self


class BatchParamsIn(StrictBody):
    operation: OperationName = Field(
        description="embed: compute the embeddings ahead of the clicks; the others as their routes"
    )
    options: dict[str, Any] = Field(
        {},
        description="of the operation: what its route takes besides image_id, model, prompts and format",
        examples=[{"method": "ais"}],
    )
    prompts: dict[Id, Annotated[list[PromptIn], Field(min_length=1, max_length=MAX_PROMPTS)]] = Field(
        {}, max_length=MAX_IMAGES, description="for segment: by image_id, or by name"
    )


class BaseJobIn(StrictBody):
    model: str | None = Field(None, max_length=64, description="the operation's default model if left out")
    priority: Literal["interactive", "batch"] = Field(
        "batch", description="interactive: somebody waits for it; it does not stand behind batch jobs"
    )
    webhook: str | None = Field(
        None, max_length=2048, description="URL that is sent the job as JSON, signed, when it has ended"
    )


class BatchIn(BaseJobIn):
    """One operation on each of many images."""

    kind: Literal["batch"]
    input: BatchInputIn
    params: BatchParamsIn


class FileIn(StrictBody):
    file_id: Id = Field(description="as POST /v1/files answered it")


class VideoIn(BaseJobIn):
    """Objects followed through a video, or a stack of frames of one size."""

    kind: Literal["video"]
    input: FileIn
    params: VideoParamsIn


class VolumeIn(BaseJobIn):
    """Objects followed through a volume, slice by slice; or all that are there."""

    kind: Literal["volume"]
    input: FileIn
    params: VolumeParamsIn


class TrackingIn(BaseJobIn):
    """All objects of every frame, each with its track."""

    kind: Literal["tracking"]
    input: FileIn
    params: TrackingParamsIn = TrackingParamsIn()


class JobIn(
    DiscriminatedBody[Annotated[BatchIn | VideoIn | VolumeIn | TrackingIn, Field(discriminator="kind")]]
):
    """Long work, in the background."""

    discriminator = "kind"


class FileOut(BaseModel):
    file_id: str
    kind: FileKind
    format: str
    frames: int = Field(description="of a video or stack; slices of a volume; pictures of a zip")
    width: int
    height: int
    fps: float | None
    spacing: tuple[float, float, float] | None = Field(
        description="of a volume, mm: from slice to slice, row to row, column to column"
    )


class ProgressOut(BaseModel):
    done: int
    total: int | None = Field(description="null until the job has begun")
    failed: int = Field(description="of those done")
    rate_per_s: float | None
    eta_s: float | None = Field(description="seconds left at this rate")


class JobErrorOut(BaseModel):
    type: str
    detail: str
    remedy: str | None = None
    field: str | None = None


class JobOut(BaseModel):
    job_id: str
    kind: JobKind
    model: str
    priority: Priority
    state: JobState
    progress: ProgressOut
    attempts: int = Field(description="starts since the last finished part")
    error: JobErrorOut | None
    created_at: str = Field(description="ISO 8601, UTC")
    started_at: str | None
    ended_at: str | None


class JobsOut(BaseModel):
    jobs: list[JobOut] = Field(description="the newest first, 100 at most")
