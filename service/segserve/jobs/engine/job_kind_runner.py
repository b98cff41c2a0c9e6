"""The interface between the worker and a kind of job: a job is opened, then made chunk by chunk, in order.

    JobKindRunner.open(job, request) -> OpenJob -> run_chunk(0), run_chunk(1), ... -> None

The kinds themselves (batch, propagation, merging, tracking) are in `segserve.jobs.kinds`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.result_store import PublishedResults
from segserve.jobs.engine.stop_signal import StopSignal
from segserve.types import ObjectEnd


@dataclass(frozen=True)
class Chunk:
    """The results of one chunk of a job.

    lines: the result lines, one JSON object each, in order.
    failures: how many of the lines are errors.
    units: how many images, frames or slices the chunk counts for; None: one a line.
    state: what the next chunk needs to go on, besides the lines; None: nothing.
    supersedes: True if the state of the chunk before is not needed any more.
    ends: where followed objects ended.
    """

    lines: list[bytes]
    failures: int = 0
    units: int | None = None
    state: bytes | None = None
    supersedes: bool = False
    ends: Sequence[ObjectEnd] = ()

    @property
    def unit_count(self) -> int:
        return len(self.lines) if self.units is None else self.units


class OpenJob(Protocol):
    """`OpenJob` is a job that is ready to run, from any chunk on."""

    @property
    def total(self) -> int:
        """The units of all chunks together: images, frames or slices."""
        ...

    async def run_chunk(self, number: int, stop: StopSignal) -> Chunk | None:
        """Make chunk `number`, from 0; None after the last chunk.

        The same number gives the same lines, however often and wherever it runs.

        Raises JobStopped within one unit of work after `stop` is set.
        """
        ...

    async def close(self) -> None: ...


class JobKindRunner(Protocol):
    """`JobKindRunner` opens the jobs of one kind."""

    async def open(self, job: Job, request: bytes, past: PublishedResults) -> OpenJob:
        """Open a job.

        request: the checked request as JSON.
        past: the published results; it grows with every chunk.

        Raises BadInput if the job cannot be done after all.
        """
        ...
