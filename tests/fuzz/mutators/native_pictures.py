"""Damaged pictures of every format in sandboxed processes: decoded twice, at once and in bands, always to the same."""

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve.errors import SegserveError
from segserve.files.file_readers import FileReaders
from segserve.files.sandboxed_image import open_in_process
from tests.fuzz.broken import Broken
from tests.fuzz.harnesses.harness import check_refusal, write_scratch
from tests.fuzz.mutate import mutate
from tests.fuzz.mutators.damaged_files import make_pictures
from tests.fuzz.mutators.mutator import Mutator
from tests.fuzz.mutators.two_sandboxes import LIMITS, TwoSandboxes
from tests.fuzz.service import FuzzedService


class NativePictures(Mutator):
    """`NativePictures` decodes a damaged picture twice."""

    name = "native_pictures"

    def __init__(self) -> None:
        self._pictures, self._sandboxes = make_pictures(), TwoSandboxes()

    def close(self) -> None:
        self._sandboxes.close()

    def count_accepted(self) -> int:
        """Decode the undamaged pictures. Return how many are accepted. Raises Broken."""
        return sum(self.run(data) == "accepted" for data in self._pictures)

    def make(self, rng: random.Random) -> bytes:
        return mutate(rng, rng.choice(self._pictures), self._pictures)

    def run(self, data: bytes, service: FuzzedService | None = None) -> str:
        path = write_scratch("picture", data)
        outcomes = [decode(readers, path) for readers in self._sandboxes.readers]
        first, second = outcomes
        if isinstance(first, str) or isinstance(second, str):
            return first if isinstance(first, str) else str(second)
        if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            raise Broken("memory", "pixels from unwritten memory", f"{first.shape} {first.dtype}")
        return "accepted"


def decode(readers: FileReaders, path: Path) -> NDArray[Any] | str:
    """Return the pixels, or the code of the refusal."""
    limit = LIMITS.max_frame_pixels
    try:
        with closing(open_in_process(readers, path, 0, limit, limit)) as picture:
            return picture.source.read().values.copy()
    except SegserveError as error:
        check_refusal(error)
        return "crashed" if "stops its reader" in error.message else error.code
