"""A harness, and what every refusal must be."""

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from segserve.errors import SegserveError


@dataclass(frozen=True)
class Harness:
    """`Harness` runs one reader.

    read: gives it bytes; raises whatever the reader must not raise, AssertionError for a wrong result.
    seeds: makes valid inputs.
    words: byte strings that mean something to the reader, for the mutator.
    max_bytes: longer inputs are not tried.
    """

    name: str
    read: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...] = ()
    max_bytes: int = 1 << 14

    def run(self, data: bytes) -> None:
        """Raise what `read` raises. Libraries may warn of damage."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.read(data)


@contextmanager
def expect_refusals() -> Iterator[None]:
    """Let a reader refuse its input, with a message for the user and what to do."""
    try:
        yield
    except SegserveError as error:
        check_refusal(error)


def check_refusal(error: SegserveError) -> None:
    """Raise AssertionError unless the error has a remedy, and no path of this machine."""
    assert error.message, error
    assert error.remedy, error
    for text in (error.message, error.remedy):
        assert str(scratch_folder()) not in text, text
        assert "Traceback" not in text, text


@cache
def scratch_folder() -> Path:
    """A folder in memory where possible, for readers that take a path."""
    memory = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory if memory.is_dir() else None)
    _folders.append(folder)
    return Path(folder.name)


# Deleted when the process ends.
_folders: list["tempfile.TemporaryDirectory[str]"] = []


def write_scratch(name: str, data: bytes) -> Path:
    path = scratch_folder() / name
    path.write_bytes(data)
    return path
