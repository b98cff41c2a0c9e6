"""Timers and table rows of the benchmarks: medians, a stated number of threads, comparisons within one run."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

THREADS = int(os.environ.get("BENCH_THREADS", "2"))  # of every library that is compared
# A rehearsal shows that a benchmark works: calls are timed once, and what needs a GPU runs on the CPU. Its times mean
# nothing.
REHEARSE = os.environ.get("BENCH_REHEARSE") == "1"

PAUSE_S = 0.02  # before each call: threads of the call before may still spin


class Skipped(Exception):
    """The machine lacks what a benchmark needs."""


def describe_machine() -> str:
    """Return CPU, number of cores and Python version."""
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {len(names)} cores, Python {platform.python_version()}"


def describe_cpu_flags() -> str:
    """Return the CPU's flags that matter for speed."""
    flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].splitlines()[0].split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    return ", ".join(flag for flag in wanted if flag in flags) or "none of note"


def measure_median_ms(call: Callable[[], object], repeats: int = 30, warm_up: int = 3) -> float:
    """Return the median time of a call, after `warm_up` calls that do not count."""
    if REHEARSE:
        repeats, warm_up = 1, 0
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000


def measure_interleaved_ms(
    calls: dict[str, Callable[[], object]], repeats: int = 15, warm_up: int = 2
) -> dict[str, float]:
    """Return the median time of each call, by name. The calls take turns, so that other load hits all of them alike.

    Each call starts on an idle machine, as a click does.
    """
    if REHEARSE:
        repeats, warm_up = 1, 0
    for call in [*calls.values()] * warm_up:
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
class Measurement:
    """A row of a benchmark's table. target: empty for a row that only informs."""

    label: str
    value: str
    target: str = ""
    met: bool | None = None

    def to_row(self) -> str:
        """Return the row in Markdown."""
        mark = "" if self.met is None else ("yes" if self.met else "**no**")
        return f"| {self.label} | {self.value} | {self.target} | {mark} |"


def at_least(label: str, ratio: float, target: float) -> Measurement:
    """Return a ratio whose target is a lower limit."""
    return Measurement(label, f"{ratio:.2f}x", f">= {target:g}x", ratio >= target)


def at_most(label: str, value: float, target: float, unit: str) -> Measurement:
    """Return a value whose target is an upper limit."""
    return Measurement(label, f"{value:.3g} {unit}".strip(), f"<= {target:g} {unit}".strip(), value <= target)
