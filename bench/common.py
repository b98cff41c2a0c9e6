"""Measuring: medians, threads stated, everything compared in one run."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

THREADS = int(os.environ.get("BENCH_THREADS", "2"))
REHEARSE = os.environ.get("BENCH_REHEARSE") == "1"  # run what needs a device without one; times say nothing

PAUSE_S = 0.02


class Skipped(Exception):
    """What a part needs is not here."""


def machine() -> str:
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {len(names)} cores, Python {platform.python_version()}"


def median_ms(call: Callable[[], object], repeats: int = 30, warm: int = 3) -> float:
    for _ in range(warm):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000


def interleaved_ms(
    calls: dict[str, Callable[[], object]], repeats: int = 15, warm: int = 2
) -> dict[str, float]:
    """Medians of several calls taken in turn, so that what else the machine does hits them alike; each begins
    on an idle machine, as a click does: threads of the call before may spin for a while."""
    for call in [*calls.values()] * warm:
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) * 1000 for name, values in times.items()}


@dataclass(frozen=True)
class Line:
    """One measured line. target: what was aimed at, empty where it only informs."""

    what: str
    value: str
    target: str = ""
    met: bool | None = None

    def row(self) -> str:
        mark = "" if self.met is None else ("yes" if self.met else "**no**")
        return f"| {self.what} | {self.value} | {self.target} | {mark} |"


def at_least(what: str, ratio: float, target: float) -> Line:
    return Line(what, f"{ratio:.2f}x", f">= {target:g}x", ratio >= target)


def at_most(what: str, value: float, target: float, unit: str) -> Line:
    return Line(what, f"{value:.3g} {unit}".strip(), f"<= {target:g} {unit}".strip(), value <= target)
