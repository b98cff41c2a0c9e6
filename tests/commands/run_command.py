"""Running a `segserve` command as a user does."""

import os
import subprocess
import sys
from pathlib import Path


def run_segserve(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `segserve` in a process of its own. environment: variables on top of ours."""
    return subprocess.run(
        [sys.executable, "-m", "segserve.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
