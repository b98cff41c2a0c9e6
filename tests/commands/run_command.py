"""Running a `segserve` command as a user does."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.forked_program import Program, start_segserve

TIMEOUT_S = 300


def run_segserve(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `segserve` in a process of its own. environment: variables on top of ours."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        program = start_segserve(list(map(str, arguments)), {**os.environ, **environment}, output, errors)
        try:
            status = program.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            program.kill()
            raise
        for file in (output, errors):
            file.seek(0)
        return subprocess.CompletedProcess(program.args, status, output.read(), errors.read())


class RunningCommand:
    """`RunningCommand` is a `segserve` command that has not ended. log: the file of all its output."""

    def __init__(self, program: Program, log: Path) -> None:
        self._program, self._log = program, log
        self.pid = program.pid

    def read_output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has written the text."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.read_output():
            self.check_that_it_runs(deadline)
            time.sleep(0.02)

    def check_that_it_runs(self, deadline: float) -> None:
        """Raise AssertionError if it has ended, or if the time has come that `time.monotonic` gives."""
        assert self._program.poll() is None, self.read_output()
        assert time.monotonic() < deadline, self.read_output()

    def end_by(self, number: int) -> int:
        """Send it a signal, and return its exit status."""
        self._program.send_signal(number)
        return self._program.wait(TIMEOUT_S)


@contextmanager
def running_segserve(*arguments: str | Path) -> Iterator[RunningCommand]:
    """Run a command beside the block."""
    with tempfile.NamedTemporaryFile("w") as log:
        program = start_segserve(list(map(str, arguments)), dict(os.environ), log, log)
        try:
            yield RunningCommand(program, Path(log.name))
        finally:
            program.kill()
            program.wait()
