"""What is known of a job. A job is work in chunks; a chunk is published once, and the job goes on after it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from segserve.errors import SegserveError
from segserve.types import Priority

FIRST_REQUEST = "first"


class JobKind(StrEnum):
    BATCH = "batch"
    VIDEO = "video"
    VOLUME = "volume"
    TRACKING = "tracking"


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class JobError:
    """Why a job failed: an error of the tree in `errors`, told as it would be to whoever asked."""

    code: str
    message: str
    remedy: str = ""
    field: str | None = None

    @classmethod
    def from_error(cls, error: SegserveError) -> Self:
        return cls(error.code, error.message, error.remedy, error.field)

    def to_problem(self) -> dict[str, str]:
        """As a problem document of the REST API says it."""
        told = {
            "type": f"urn:segserve:problem:{self.code}",
            "detail": self.message,
            "remedy": self.remedy,
            "field": self.field,
        }
        return {name: value for name, value in told.items() if value}


@dataclass(frozen=True)
class Job:
    """done, total: of the units that users count (images, frames, slices); total is None until it is known.
    chunks: published. revision: how often it was asked for more since. asked: what names the latest request.
    attempts: starts since the last published chunk, the present one included. failures: units that failed
    alone. Times in seconds since the epoch. webhook: the URL that is told of its end."""

    tenant: str
    job_id: str
    kind: JobKind
    priority: Priority
    model: str
    state: JobState
    created_at: float
    done: int = 0
    total: int | None = None
    failures: int = 0
    chunks: int = 0
    revision: int = 0
    request_name: str = FIRST_REQUEST
    attempts: int = 0
    rate_per_s: float | None = None
    error: JobError | None = None
    started_at: float | None = None
    ended_at: float | None = None
    webhook: str | None = None

    @property
    def eta_s(self) -> float | None:
        if self.state is not JobState.RUNNING or not self.rate_per_s or self.total is None:
            return None
        return (self.total - self.done) / self.rate_per_s


@dataclass(frozen=True)
class PublishedChunk:
    """A chunk that can be read. lines, done, failures: up to its end. revision: of the job, when it was made; what is
    asked for later changes only the chunks after some of them."""

    lines: int
    done: int
    failures: int
    revision: int


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job. id: later events have greater ones. job: as it was right after. fence: of the
    start that held it then."""

    id: str
    job: Job
    fence: int
