"""Hausdorff distances of two boundaries against scipy's `directed_hausdorff` both ways, and how time grows.

In processor time: all of it runs in one thread, and what else the machine does would outweigh milliseconds.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import directed_hausdorff

from bench.common import Line, at_most
from segserve.evaluate.hausdorff import max_hausdorff, point_hausdorff

Points = NDArray[np.float64]

POINTS = 2_000
SIZES = (2_000, 20_000, 200_000)
REPEATS, FEW = 41, 5
GROWTH = 15  # near-linear: ten, the logarithm, and caches that no longer hold the trees


def outline(count: int, seed: int) -> Points:
    """A closed wobbly outline of so many points, about 3 px apart: an object's boundary."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    waves = sum(rng.uniform(0, 0.1) / k * np.cos(k * angle + rng.uniform(0, 7)) for k in range(2, 8))
    return count / 2 * (1 + np.asarray(waves))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def pairs(count: int) -> dict[str, tuple[Points, Points]]:
    """A truth, and predictions of it from good to absurd."""
    truth, rng = outline(count, 0), np.random.default_rng(1)
    return {
        "off by some px": (truth, truth + rng.normal(0, 3, truth.shape)),
        "moved by 5 px": (truth, truth + np.array([5, 0])),
        "1% larger": (truth, truth * 1.01),
        "30% larger": (truth, truth * 1.3),
        "another shape": (truth, outline(count, 1)),
    }


def both_ways(truth: Points, found: Points) -> float:
    return float(max(directed_hausdorff(truth, found)[0], directed_hausdorff(found, truth)[0]))


def processor_ms(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Medians of several calls taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            times[name].append(time.thread_time() - start)
    return {name: float(np.median(values[1:])) * 1000 for name, values in times.items()}


def measure() -> list[Line]:
    return [*against_scipy(), *growth()]


def against_scipy() -> list[Line]:
    lines = []
    for name, (truth, found) in pairs(POINTS).items():
        assert np.isclose(max_hausdorff(truth, found), both_ways(truth, found))
        calls = {
            "the largest": lambda a=truth, b=found: max_hausdorff(a, b),
            "with the 95th percentile": lambda a=truth, b=found: point_hausdorff(a, b),
            "scipy": lambda a=truth, b=found: both_ways(a, b),
        }
        times = processor_ms(calls, REPEATS)
        what = f"{POINTS:,} points each, {name}"
        lines.append(Line(what, ", ".join(f"{key} {ms:.2f} ms" for key, ms in times.items())))
        ratio = times["the largest"] / times["scipy"]
        lines.append(at_most(f"{what}: the largest against directed_hausdorff both ways", ratio, 1, "x"))
    return lines


def growth() -> list[Line]:
    lines = []
    for name in pairs(1):
        for what, measured in {
            "the largest": max_hausdorff,
            "with the 95th percentile": point_hausdorff,
        }.items():
            given = {f"{size:,}": pairs(size)[name] for size in SIZES}
            calls = {size: lambda a=a, b=b, f=measured: f(a, b) for size, (a, b) in given.items()}
            times = processor_ms(calls, FEW)
            shown = ", ".join(f"{ms:.1f}" for ms in times.values())
            lines.append(Line(f"{name}, {what}: {', '.join(times)} points each", f"{shown} ms"))
            each = (times[f"{SIZES[-1]:,}"] / times[f"{SIZES[0]:,}"]) ** 0.5
            lines.append(at_most(f"{name}, {what}: growth for ten times the points", each, GROWTH, "x"))
    return lines
