"""The JSON of /v1/jobs: the body of any kind of job, and a job's state and progress."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, Field, WithJsonSchema

from segserve.jobs.engine.job import JobKind, JobState
from segserve.jobs.engine.object_ends import MAX_LATEST_ENDS
from segserve.types import Priority
from segserve.wire.schemas.batch import BatchIn
from segserve.wire.schemas.common import MAX_JOB_VALUES, MAX_OBJECTS_VALUES, PieceLimits
from segserve.wire.schemas.discriminated_body import DiscriminatedBody
from segserve.wire.schemas.propagation import VideoIn, VolumeIn
from segserve.wire.schemas.tracking import TrackingIn


class JobIn(
    DiscriminatedBody[Annotated[BatchIn | VideoIn | VolumeIn | TrackingIn, Field(discriminator="kind")]]
):
    """Long work, done in the background."""

    discriminator = "kind"
    max_values = MAX_JOB_VALUES
    pieces: ClassVar[PieceLimits] = {
        ("params", "objects"): MAX_OBJECTS_VALUES,
        ("params", "prompts"): MAX_JOB_VALUES,
    }


# Not JobState itself: its docstring explains the job engine, and would stand in the OpenAPI document.
State = Annotated[str, WithJsonSchema({"type": "string", "enum": [state.value for state in JobState]})]


class ProgressOut(BaseModel):
    """Images, frames or slices of a job."""

    done: int
    total: int | None = Field(description="null until the job has begun")
    failed: int = Field(description="how many of those done have failed")
    rate_per_s: float | None
    eta_s: float | None = Field(description="seconds left at this rate")


class JobErrorOut(BaseModel):
    """Why a job has failed: fields of a problem document."""

    type: str
    detail: str
    remedy: str | None = None
    field: str | None = None


class ObjectEndOut(BaseModel):
    """Where an object that was followed ended, or was lost. Jobs on volumes say slice and last_slice."""

    object_id: int
    frame: int | None = Field(None, description="the first frame where it was not found any more")
    last_frame: int | None = Field(
        None, description="the last frame where it was found; null if it never was"
    )
    slice: int | None = None
    last_slice: int | None = None
    reason: str = Field(description="why it was not found there")


class ObjectEndsOut(BaseModel):
    """Where objects that a job follows ended, or were lost, as far as it has come."""

    count: int
    latest: list[ObjectEndOut] = Field(description=f"at most {MAX_LATEST_ENDS}; result lines have all")


class JobOut(BaseModel):
    """A job, its state and its progress."""

    job_id: str
    kind: JobKind
    model: str
    priority: Priority
    state: State = Field(
        description="queued and running jobs go on; succeeded, failed and cancelled ones have ended"
    )
    progress: ProgressOut
    object_ends: ObjectEndsOut
    attempts: int = Field(description="how often the job was started since its last finished part")
    error: JobErrorOut | None
    created_at: str = Field(description="ISO 8601, UTC")
    started_at: str | None
    ended_at: str | None


class JobsOut(BaseModel):
    """The newest jobs."""

    jobs: list[JobOut] = Field(description="the newest first, at most 100")
