"""Damaged files in sandboxed processes, read to the last pixel: what a probe accepts can be read, and always the same.

Each file is read in two processes whose freed and new memory is filled with different bytes. Pixels that differ come
from memory that no reader wrote to.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import numpy as np

from segserve.errors import BadInput, SegserveError
from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.file_view import open_view
from segserve.sandbox import sandbox as sandbox_module
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileKind, FileLimits, FileRecord, UInt8
from tests.fuzz.broken import Broken
from tests.fuzz.harnesses.harness import check_refusal, write_scratch
from tests.fuzz.mutators.damaged_files import make_damaged_file, make_files
from tests.fuzz.mutators.mutator import Mutator
from tests.fuzz.service import FuzzedService

LIMITS = FileLimits(max_mb=8, max_frame_pixels=1 << 20, max_voxels=1 << 20)
TIMEOUT_S = 20.0
# Frames of a file that are read: more are seldom in a damaged one, and would be reached slowly.
MAX_FRAMES_READ = 24
# Fill new and freed memory with these bytes and their complements (glibc.malloc.perturb).
FILLINGS = (0x55, 0xA3)


class NativeFiles(Mutator):
    """`NativeFiles` reads a damaged file twice."""

    name = "native"

    def __init__(self) -> None:
        self._files = make_files()
        self._executor = ThreadPoolExecutor(2)
        self._sandboxes = [start_sandbox(filling) for filling in FILLINGS]
        self._readers = [
            FileReaders(sandbox, LIMITS, timeout_s=TIMEOUT_S, memory_mb=0, executor=self._executor)
            for sandbox in self._sandboxes
        ]

    def close(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.close()
        self._executor.shutdown()

    def count_accepted(self) -> int:
        """Read the undamaged files. Return how many are accepted. Raises Broken."""
        return sum(self.run(data) == "accepted" for data in self._files.files)

    def make(self, rng: random.Random) -> bytes:
        return make_damaged_file(rng, self._files)

    def run(self, data: bytes, service: FuzzedService | None = None) -> str:
        path = write_scratch("damaged", data)
        try:
            record = self._readers[0].probe(path, "0")
        except SegserveError as error:
            check_refusal(error)
            return "crashed" if "stops its reader" in error.message else error.code
        if record.kind is FileKind.PICTURES:
            return "accepted"  # each of its pictures may fail alone
        first, second = (read_frames(readers, path, record) for readers in self._readers)
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


def start_sandbox(filling: int) -> Sandbox:
    """Start a sandbox whose processes fill memory with a byte."""
    tunables = f"{sandbox_module.ENVIRONMENT.get('GLIBC_TUNABLES', '')}:glibc.malloc.perturb={filling}".strip(
        ":"
    )
    with patch.dict(sandbox_module.ENVIRONMENT, {"GLIBC_TUNABLES": tunables}):
        sandbox = Sandbox(READER_MODULE)
        sandbox.start()
    return sandbox
