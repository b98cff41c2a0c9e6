"""Readers in two sandboxes whose freed and new memory is filled with different bytes.

Pixels that differ come from memory that no reader wrote to.
"""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.sandbox import sandbox as sandbox_module
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileLimits

LIMITS = FileLimits(max_mb=8, max_frame_pixels=1 << 20, max_voxels=1 << 20)
TIMEOUT_S = 20.0
# Fill new and freed memory with these bytes and their complements (glibc.malloc.perturb).
FILLINGS = (0x55, 0xA3)


class TwoSandboxes:
    """`TwoSandboxes` has the readers of each sandbox."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(2)
        self._sandboxes = [start_sandbox(filling) for filling in FILLINGS]
        self.readers = [
            FileReaders(sandbox, LIMITS, timeout_s=TIMEOUT_S, memory_mb=0, executor=self._executor)
            for sandbox in self._sandboxes
        ]

    def close(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.close()
        self._executor.shutdown()


def start_sandbox(filling: int) -> Sandbox:
    """Start a sandbox whose processes fill memory with a byte."""
    tunables = f"{sandbox_module.ENVIRONMENT.get('GLIBC_TUNABLES', '')}:glibc.malloc.perturb={filling}".strip(
        ":"
    )
    with patch.dict(sandbox_module.ENVIRONMENT, {"GLIBC_TUNABLES": tunables}):
        sandbox = Sandbox(READER_MODULE)
        sandbox.start()
    return sandbox
