"""What a kind of job is to the worker that runs it: chunks, made in order."""

import threading
from dataclasses import dataclass
from typing import Protocol

from segserve.jobs.engine.job import Job
from segserve.jobs.engine.result_store import Past


class Stopped(Exception):
    """The job is not wanted any more: it was cancelled, another worker has it, or this one is to end."""


class Stop:
    """Told from the event loop, asked in any thread between two units of work."""

    def __init__(self) -> None:
        self._told = threading.Event()

    def tell(self) -> None:
        self._told.set()

    def check(self) -> None:
        """Raises Stopped."""
        if self._told.is_set():
            raise Stopped


@dataclass(frozen=True)
class Chunk:
    """lines: of the results, a JSON object each. failures: how many of them are errors. units: what users count
    (images, frames, slices); None: one a line. state: what it takes to go on after this chunk, beside the lines.
    supersedes: with it the state before is of no use any more."""

    lines: list[bytes]
    failures: int = 0
    units: int | None = None
    state: bytes | None = None
    supersedes: bool = False

    @property
    def count(self) -> int:
        return len(self.lines) if self.units is None else self.units


class Opened(Protocol):
    """A job that can be worked on, from any chunk on."""

    @property
    def total(self) -> int:
        """Units in all chunks together."""
        ...

    async def chunk(self, number: int, stop: Stop) -> Chunk | None:
        """The same lines for the same number, however often and wherever it runs. None beyond the last. Raises
        Stopped within one unit of being told."""
        ...

    async def close(self) -> None: ...


class Work(Protocol):
    async def open(self, job: Job, request: bytes, past: Past) -> Opened:
        """request: what was asked, as it was checked. past: what is published; it grows with every chunk. Raises
        BadInput where it cannot be done after all."""
        ...
