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

    done: int = Field(description="images, frames or slices that are finished")
    total: int | None = Field(description="null until the job has begun")
    failed: int = Field(description="how many of those done have failed")
    rate_per_s: float | None = Field(description="finished per second; null until it is known")
    eta_s: float | None = Field(description="seconds left at this rate")


class JobErrorOut(BaseModel):
    """Why a job has failed: fields of a problem document."""

    type: str = Field(description="stable name of the problem")
    detail: str = Field(description="what went wrong, for people")
    remedy: str | None = Field(None, description="what to do about it")
    field: str | None = Field(None, description="path of the field at fault, if one is")


class ObjectEndOut(BaseModel):
    """Where an object that was followed ended, or was lost. Jobs on volumes say slice and last_slice."""

    object_id: int = Field(description="as in the request")
    frame: int | None = Field(None, description="the first frame where it was not found any more")
    last_frame: int | None = Field(
        None, description="the last frame where it was found; null if it never was"
    )
    slice: int | None = Field(None, description="the first slice where it was not found any more")
    last_slice: int | None = Field(
        None, description="the last slice where it was found; null if it never was"
    )
    reason: str = Field(description="why it was not found there")


class ObjectEndsOut(BaseModel):
    """Where objects that a job follows ended, or were lost, as far as it has come."""

    count: int = Field(description="objects that have ended")
    latest: list[ObjectEndOut] = Field(description=f"at most {MAX_LATEST_ENDS}; result lines have all")


class JobOut(BaseModel):
    """A job, its state and its progress."""

    job_id: str = Field(description="names the job in all other requests")
    kind: JobKind = Field(description="of work")
    model: str = Field(description="the model that is used")
    priority: Priority = Field(description="interactive jobs do not wait behind batch jobs")
    state: State = Field(
        description="queued and running jobs go on; succeeded, failed and cancelled ones have ended"
    )
    progress: ProgressOut = Field(description="how far it has come")
    object_ends: ObjectEndsOut = Field(description="objects that were followed and have ended")
    attempts: int = Field(description="how often the job was started since its last finished part")
    error: JobErrorOut | None = Field(description="why it has failed, if it has")
    created_at: str = Field(description="ISO 8601, UTC")
    started_at: str | None = Field(description="ISO 8601, UTC; null until it has begun")
    ended_at: str | None = Field(description="ISO 8601, UTC; null until it has ended")


class JobsOut(BaseModel):
    """The newest jobs."""

    jobs: list[JobOut] = Field(description="the newest first, at most 100")
