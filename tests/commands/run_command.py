"""Running a `segserve` command as a user does."""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.forked_program import start_segserve

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
