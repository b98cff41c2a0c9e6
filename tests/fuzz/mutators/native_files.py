"""Damaged files in sandboxed processes, read to the last pixel: what is accepted can be read, and always the same."""

import random
from pathlib import Path

import numpy as np

from segserve.errors import BadInput, SegserveError
from segserve.files.file_readers import FileReaders
from segserve.files.file_view import open_view
from segserve.types import FileKind, FileRecord, UInt8
from tests.fuzz.broken import Broken
from tests.fuzz.harnesses.harness import check_refusal, write_scratch
from tests.fuzz.mutators.damaged_files import make_damaged_file, make_files
from tests.fuzz.mutators.mutator import Mutator
from tests.fuzz.mutators.two_sandboxes import TwoSandboxes
from tests.fuzz.service import FuzzedService

# Frames of a file that are read: more are seldom in a damaged one, and would be reached slowly.
MAX_FRAMES_READ = 24


class NativeFiles(Mutator):
    """`NativeFiles` reads a damaged file twice."""

    name = "native"

    def __init__(self) -> None:
        self._files, self._sandboxes = make_files(), TwoSandboxes()

    def close(self) -> None:
        self._sandboxes.close()

    def count_accepted(self) -> int:
        """Read the undamaged files. Return how many are accepted. Raises Broken."""
        return sum(self.run(data) == "accepted" for data in self._files.files)

    def make(self, rng: random.Random) -> bytes:
        return make_damaged_file(rng, self._files)

    def run(self, data: bytes, service: FuzzedService | None = None) -> str:
        path = write_scratch("damaged", data)
        try:
            record = self._sandboxes.readers[0].probe(path, "0")
        except SegserveError as error:
            check_refusal(error)
            return "crashed" if "stops its reader" in error.message else error.code
        if record.kind is FileKind.PICTURES:
            return "accepted"  # each of its pictures may fail alone
        first, second = (read_frames(readers, path, record) for readers in self._sandboxes.readers)
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            if not np.array_equal(one, other):
                raise Broken("memory", f"{record.format}: pixels from unwritten memory", f"frame {index}")
        return "accepted"


def read_frames(readers: FileReaders, path: Path, record: FileRecord) -> list[UInt8]:
    """Return the first frames or slices. Raises Broken where they cannot be read after all."""
    try:
        with open_view(record, path, readers, 0, None) as frames:
            return [frames.read(index) for index in range(min(frames.count, MAX_FRAMES_READ))]
    except BadInput as error:
        raise Broken(
            "promise", f"{record.format}: accepted, then: {error.message}"[:160], str(error)
        ) from None
