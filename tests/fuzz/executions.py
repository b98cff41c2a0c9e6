"""How many inputs the process of a harness has tried: a number in a file, which is right however the process ends."""

import mmap
import sys
from pathlib import Path

COUNT_BYTES = 8


def executions_path(corpus: Path) -> Path:
    """corpus: folder of the harness."""
    return corpus.with_suffix(".executed")


def create_counter(corpus: Path) -> "memoryview[int]":
    """Return the counter of this process, which others read from the file. It begins with 0."""
    path = executions_path(corpus)
    path.write_bytes(bytes(COUNT_BYTES))
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), COUNT_BYTES)).cast("Q")


def take_count(corpus: Path) -> int:
    """Return what the last process has counted, and forget it."""
    path = executions_path(corpus)
    count = int.from_bytes(path.read_bytes(), sys.byteorder) if path.exists() else 0
    path.unlink(missing_ok=True)
    return count
