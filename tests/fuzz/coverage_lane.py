"""Run harnesses under atheris, each in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.executions import take_count
from tests.fuzz.harnesses.all_harnesses import MODULE_NAMES
from tests.fuzz.report import Report

ROOT = Path(__file__).parent.parent.parent
# A process takes some seconds to begin.
MIN_HARNESS_S = 30
START_S = 5
# Lower priority than the service, whose answers are timed.
NICE = 3
# Touched when a harness has run.
LAST_RUN = ".last"


class CoverageLane:
    """`CoverageLane` divides a time among harnesses. Those go first that have not run for longest.

    folder: has the folder `corpus`, which grows from run to run.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self._corpus, self._report = folder / "corpus", report

    def run(self, names: Sequence[str], deadline: float) -> None:
        """Run as many as there is time for until `deadline`."""
        queue = sorted(names, key=self._last_run)
        while queue and time.monotonic() + MIN_HARNESS_S <= deadline:
            share = (deadline - time.monotonic()) / len(queue)
            self._run_harness(queue.pop(0), int(max(MIN_HARNESS_S, share)))
        if queue:
            self._report.notes.append(f"no time was left for the harnesses {', '.join(queue)}")

    def _last_run(self, name: str) -> float:
        path = self._corpus / name / LAST_RUN
        return path.stat().st_mtime if path.exists() else 0.0

    def _run_harness(self, name: str, seconds: int) -> None:
        """Run a harness for a time, again after an input has ended its process."""
        start, executed = time.monotonic(), 0
        while (left := int(start + seconds - time.monotonic())) > START_S:
            before = self._list_findings(name)
            done = self._start_process(name, left - START_S)
            count = take_count(self._corpus / name)
            executed += count
            for path in sorted(self._list_findings(name) - before):
                self._report.add_file(name, path)
            if not count:
                missing = "No module named 'atheris'" in done.stderr
                reason = "atheris is missing (the extra fuzz)" if missing else done.stderr[-500:]
                self._report.notes.append(f"{name} did not run: {reason}")
                break
            if done.returncode == 0:
                break
        self._report.count(name, "executed", executed)
        self._report.seconds[name] += time.monotonic() - start

    def _list_findings(self, name: str) -> set[Path]:
        return {path for path in (self._report.folder / name).glob("*") if path.suffix != ".txt"}

    def _start_process(self, name: str, seconds: int) -> "subprocess.CompletedProcess[str]":
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.coverage_process",
            MODULE_NAMES[name],
            name,
            str(seconds),
        ]
        command += [str(self._corpus / name), str(self._report.folder)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=ROOT,
            preexec_fn=lambda: os.nice(NICE),
        )
        (self._corpus / name).mkdir(parents=True, exist_ok=True)
        (self._corpus / name / LAST_RUN).touch()
        return done
