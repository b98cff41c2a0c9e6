"""What is known of a job: its kind, state, progress and error. A job is work in chunks; a chunk is published once, and
the job goes on after it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from segserve.errors import SegserveError
from segserve.jobs.engine.object_ends import ObjectEnds
from segserve.types import Priority

FIRST_REQUEST = "first"  # the name of the request that a job was submitted with


class JobKind(StrEnum):
    BATCH = "batch"
    VIDEO = "video"
    VOLUME = "volume"
    TRACKING = "tracking"

    @property
    def index_name(self) -> str:
        """The name of a frame's number in result lines."""
        return "slice" if self is JobKind.VOLUME else "frame"


class JobState(StrEnum):
    """The state of a job.

        submit --> QUEUED <--> RUNNING --> SUCCEEDED | FAILED | CANCELLED
                      ^                                  |         |
                      +------------- retry --------------+---------+

    from                by         to
    ------------------  ---------  ---------
    (a new job)         submit     QUEUED
    QUEUED              begin      RUNNING     a worker takes the job
    RUNNING             begin      RUNNING     its worker died: another takes it over
    RUNNING             release    QUEUED      the worker shuts down, or waits until a transient failure has passed
    QUEUED, RUNNING     begin      FAILED      it would be more than `retry_policy.MAX_ATTEMPTS`
    RUNNING             succeed    SUCCEEDED
    RUNNING             fail       FAILED
    QUEUED, RUNNING     cancel     CANCELLED
    FAILED, CANCELLED   retry      QUEUED      it goes on after its last published chunk
    every state         revise     QUEUED      it goes on after the chunks that the revision keeps

    The methods of `JobStore` have the names in the second column. SUCCEEDED, FAILED and CANCELLED are the ends: each
    time a job comes to one, its webhook is due, and the job is deleted after its time to live.
    """

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
    """Why a job failed: an error of the tree in `errors`, as a client would see it."""

    code: str
    message: str
    remedy: str = ""
    field: str | None = None

    @classmethod
    def from_error(cls, error: SegserveError) -> Self:
        return cls(error.code, error.message, error.remedy, error.field)

    def to_problem(self) -> dict[str, str]:
        """Return the members of a problem document of the REST API (RFC 9457)."""
        problem = {
            "type": f"urn:segserve:problem:{self.code}",
            "detail": self.message,
            "remedy": self.remedy,
            "field": self.field,
        }
        return {name: value for name, value in problem.items() if value}


@dataclass(frozen=True)
class Job:
    """A job, as it was when it was read. Times are seconds since the epoch.

    done, total: progress in the units that users count (images, frames, slices); total is None until it is known.
    failures: units that failed alone.
    object_ends: where objects that the job follows ended, or were lost.
    chunks: how many chunks are published.
    revision: how often the job was revised.
    request_name: the name of its latest request in the object store.
    attempts: attempts since the last published chunk, the present one included.
    rate_per_s: units per second of the present attempt.
    webhook: the URL that is called when the job ends.
    submitted_by: the name of the identity that submitted it; empty: not known.
    """

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
    object_ends: ObjectEnds = ObjectEnds()
    submitted_by: str = ""

    @property
    def eta_s(self) -> float | None:
        """Seconds until the job will be done at the present rate; None if that is not known."""
        if self.state is not JobState.RUNNING or not self.rate_per_s or self.total is None:
            return None
        return (self.total - self.done) / self.rate_per_s


@dataclass(frozen=True)
class PublishedChunk:
    """A chunk whose results can be read.

    lines, done, failures, object_ends: sums over all chunks up to and including this one.
    revision: the job's revision when the chunk was made. A later revision replaces only the chunks that it changes.
    """

    lines: int
    done: int
    failures: int
    revision: int
    object_ends: ObjectEnds = ObjectEnds()


@dataclass(frozen=True)
class JobEvent:
    """A change of a job.

    id: greater than the ids of earlier events of the job.
    job: the job right after the change.
    fence: the fencing token of the attempt that held the job then.
    """

    id: str
    job: Job
    fence: int
