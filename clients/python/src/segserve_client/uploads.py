"""What can be uploaded: a file's path, its bytes, or a numpy array. Each is read anew for every attempt."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from segserve_client import tiff

Source = str | os.PathLike[str] | bytes | NDArray[Any]
OnProgress = Callable[[int, int | None], None]  # (done, total); total is None while nobody knows it

PART_BYTES = 1 << 20
_SPOOL_BYTES = 64 << 20


@dataclass(frozen=True)
class Upload:
    """A body to send: `size` bytes of a file from byte `offset` on.

    total: bytes of the whole file, where it is not sent whole.
    on_progress: called with the bytes that are sent, and their total.
    """

    file: BinaryIO
    size: int
    on_progress: OnProgress | None = None
    offset: int = 0
    total: int | None = None

    def read_parts(self) -> Iterator[bytes]:
        """Yield the content from its beginning."""
        self.file.seek(self.offset)
        done = 0
        while part := self.file.read(min(PART_BYTES, self.size - done)):
            yield part
            done += len(part)
            if self.on_progress is not None:
                self.on_progress(self.offset + done, self.total or self.size)


@contextmanager
def open_upload(
    source: Source, *, stack: bool = False, on_progress: OnProgress | None = None
) -> Iterator[Upload]:
    """Open a source while the block runs.

    stack: an array is frames or slices [n, height, width], and not one picture.

    Raises OSError where a file cannot be read, ValueError for an array that is no picture.
    """
    if isinstance(source, np.ndarray):
        with SpooledTemporaryFile(_SPOOL_BYTES) as spool:
            file = cast(BinaryIO, spool)
            (tiff.write_stack if stack else tiff.write_picture)(source, file)
            file.seek(0, os.SEEK_END)
            yield Upload(file, file.tell(), on_progress)
    elif isinstance(source, bytes):
        yield Upload(BytesIO(source), len(source), on_progress)
    else:
        path = Path(source)
        with path.open("rb") as file:
            yield Upload(file, path.stat().st_size, on_progress)


def name_source(source: object, number: int) -> str:
    """Return what to call a source in results: its file's name, or its number."""
    return Path(source).name if isinstance(source, (str, os.PathLike)) else f"image {number}"
