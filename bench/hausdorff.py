"""Hausdorff distances of two boundaries: the time against SciPy's `directed_hausdorff` both ways, and its growth.

Times are CPU times. Everything runs in one thread, and other load would distort wall times of milliseconds.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import directed_hausdorff

from bench.measuring import Measurement, at_most
from segserve.evaluate.hausdorff import max_hausdorff, point_hausdorff

Points = NDArray[np.float64]

POINTS = 2_000
GROWTH_POINTS = (2_000, 20_000, 200_000)
REPEATS = 41
GROWTH_REPEATS = 5  # fewer, as 200,000 points take long
# Near-linear: ten times, the logarithm, and CPU caches that no longer hold the trees.
MAX_GROWTH = 15


def draw_outline(count: int, seed: int) -> Points:
    """Return a closed wobbly outline [count, 2] of points about 3 px apart, like an object's boundary."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    waves = sum(rng.uniform(0, 0.1) / k * np.cos(k * angle + rng.uniform(0, 7)) for k in range(2, 8))
    return count / 2 * (1 + np.asarray(waves))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def build_pairs(count: int) -> dict[str, tuple[Points, Points]]:
    """Return pairs of a truth and a prediction, from good to absurd, by name."""
    truth, rng = draw_outline(count, 0), np.random.default_rng(1)
    return {
        "off by some px": (truth, truth + rng.normal(0, 3, truth.shape)),
        "moved by 5 px": (truth, truth + np.array([5, 0])),
        "1% larger": (truth, truth * 1.01),
        "30% larger": (truth, truth * 1.3),
        "another shape": (truth, draw_outline(count, 1)),
    }


def scipy_hausdorff(truth: Points, prediction: Points) -> float:
    return float(max(directed_hausdorff(truth, prediction)[0], directed_hausdorff(prediction, truth)[0]))


def measure_cpu_ms(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median CPU time of each call, by name. The calls take turns; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            times[name].append(time.thread_time() - start)
    return {name: float(np.median(values[1:])) * 1000 for name, values in times.items()}


def measure() -> list[Measurement]:
    return [*compare_with_scipy(), *measure_growth()]


def compare_with_scipy() -> list[Measurement]:
    rows = []
    for name, (truth, prediction) in build_pairs(POINTS).items():
        assert np.isclose(max_hausdorff(truth, prediction), scipy_hausdorff(truth, prediction))
        calls = {
            "maximum": lambda a=truth, b=prediction: max_hausdorff(a, b),
            "with the 95th percentile": lambda a=truth, b=prediction: point_hausdorff(a, b),
            "scipy": lambda a=truth, b=prediction: scipy_hausdorff(a, b),
        }
        times = measure_cpu_ms(calls, REPEATS)
        label = f"{POINTS:,} points each, {name}"
        rows.append(Measurement(label, ", ".join(f"{key} {ms:.2f} ms" for key, ms in times.items())))
        ratio = times["maximum"] / times["scipy"]
        rows.append(at_most(f"{label}: maximum against directed_hausdorff both ways", ratio, 1, "x"))
    return rows


def measure_growth() -> list[Measurement]:
    rows = []
    for name in build_pairs(1):
        for kind, measured in {
            "maximum": max_hausdorff,
            "with the 95th percentile": point_hausdorff,
        }.items():
            inputs = {f"{size:,}": build_pairs(size)[name] for size in GROWTH_POINTS}
            calls = {size: lambda a=a, b=b, f=measured: f(a, b) for size, (a, b) in inputs.items()}
            times = measure_cpu_ms(calls, GROWTH_REPEATS)
            shown = ", ".join(f"{ms:.1f}" for ms in times.values())
            rows.append(Measurement(f"{name}, {kind}: {', '.join(times)} points each", f"{shown} ms"))
            growth = (times[f"{GROWTH_POINTS[-1]:,}"] / times[f"{GROWTH_POINTS[0]:,}"]) ** 0.5
            rows.append(at_most(f"{name}, {kind}: growth for ten times the points", growth, MAX_GROWTH, "x"))
    return rows
