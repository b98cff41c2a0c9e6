"""How many pods, and how much Redis, a number of annotators needs: a simulation, by what other benchmarks measured.

The costs of clicks and encodes are read from bench/results/. The annotators of `load` work in the simulation too, on
the same two cores, and are compared with what they really met. Then the simulation finds the smallest deployment that
keeps its promises, out to 10,000 annotators.
"""

import re
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from bench.capacity_simulation import Costs, Load, Outcome, Shape, Simulation
from bench.measuring import REHEARSE, Measurement

RESULTS = Path(__file__).parent / "results"
ANNOTATORS = 32  # of `load`
HELD_IMAGES = 120  # of the starter, in the 64 MB that `load` gives a replica
WARM_UP_S = 40.0  # until annotators have spread over their images
SIZES = (10, 100) if REHEARSE else (10, 32, 100, 300, 1_000, 3_000, 10_000)
SIMULATED_S = 10.0 if REHEARSE else 40.0
POD_CORES = 2
MAX_BUSY = 0.6  # of the cores of API and encoders: bursts and a pod that is replaced need the rest
MAX_CLICK_P99 = 4.0  # of a click's own time
MAX_FIRST_P95_S = 2.0
MASK_TTL_S = 3600
WORK_DAY_S = 8 * 3600
MIB = 1 << 20
# What no benchmark measures alone: a client's work for a click, where it shares the cores; fetching and preparing.
CLIENT_S = 0.002
FETCH_S = {"starter": 0.003, "MobileSAM": 0.012}
# Two threads encode the starter 1.8 times as fast as one, as `load`'s encoders have.
TWO_THREADS_FASTER = 1.8


def read_result(name: str, label: str) -> list[float]:
    """Return the numbers of a row of bench/results/. name: of the benchmark. label: of the row."""
    for line in (RESULTS / f"{name}.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == label:
            return [float(number) for number in re.findall(r"[\d.]+", cells[1])]
    raise ValueError(f"{name}.md has no row {label!r}")


def percentile_ms(seconds: list[float], percent: float) -> float:
    return 1000 * float(np.percentile(seconds, percent)) if seconds else float("nan")


@dataclass(frozen=True)
class Model:
    """A model's costs, and what it puts into Redis: bytes of an embedding and of a click's mask."""

    name: str
    costs: Costs
    embedding_bytes: int
    mask_bytes: int
    prepared_bytes: int


def create_models() -> list[Model]:
    """Return the models, by the medians of bench/results/. A prepared embedding is counted as three of its size."""
    (click_ms, _) = read_result("load", "unloaded click p50, p99")
    (encode_ms,) = read_result("jobs", "the encoder alone, an image of 256 x 256 (2 threads)")
    (sam_click_ms,) = read_result("clicks", "1024x1024, a photograph: segserve, one")
    (sam_encode_ms,) = read_result("encoders", "MobileSAM encoder, OpenVINO fp32")
    starter = Costs(click_ms / 1000, click_ms / 1000, FETCH_S["starter"], encode_ms / 1000)
    mobile_sam = Costs(sam_click_ms / 1000, 0.02, FETCH_S["MobileSAM"], sam_encode_ms / 1000)
    return [
        Model("starter", starter, 262_232, 32 << 10, 800_000),
        Model("MobileSAM", mobile_sam, 2 * MIB, 128 << 10, 6 * MIB),
    ]


def simulate(costs: Costs, shape: Shape, load: Load, seconds: float) -> Outcome:
    return Simulation(costs, shape, load).run(seconds, WARM_UP_S)


def compare(costs: Costs) -> list[Measurement]:
    """Simulate the steady load of `load`, and compare it with what was measured."""
    alone = replace(costs, encode_s=costs.encode_s * TWO_THREADS_FASTER, client_s=CLIENT_S)
    shape = Shape(2, 1, 2, 1, HELD_IMAGES, shared_cores=2)
    simulated = simulate(alone, shape, Load(ANNOTATORS), 300.0)
    rows = []
    for name, kind, expected in (
        ("clicks on cached embeddings", "cached", simulated.cached),
        ("first clicks", "first", simulated.first),
    ):
        real = read_result("load", f"{ANNOTATORS} annotators, 300 s: {kind} p50, p95, p99")
        told = [percentile_ms(expected, percent) for percent in (50, 95, 99)]
        deviations = ", ".join(
            f"{100 * (ours / theirs - 1):+.0f}" for ours, theirs in zip(told, real, strict=True)
        )
        rows.append(
            Measurement(
                f"the load of `load` on two cores, {name}, p50, p95, p99: real; simulated; deviation",
                f"{', '.join(f'{value:g}' for value in real)} ms; {', '.join(f'{value:.1f}' for value in told)} ms;"
                f" {deviations} %",
            )
        )
    return rows


def fits(model: Model, shape: Shape, outcome: Outcome) -> tuple[bool, bool]:
    """Return whether there are enough pods of the API, and enough encoders."""
    p99 = percentile_ms(outcome.cached, 99) / 1000
    api = outcome.api_busy <= MAX_BUSY and p99 <= MAX_CLICK_P99 * model.costs.click_s
    first = percentile_ms(outcome.first, 95) / 1000
    return api, outcome.encoder_busy <= MAX_BUSY and first <= max(MAX_FIRST_P95_S, 3 * model.costs.encode_s)


def find_shape(model: Model, load: Load) -> tuple[Shape, Outcome]:
    """Return the smallest deployment that keeps its promises, and what it does."""
    costs = model.costs
    apis = max(1, ceil(load.clicks_per_s * costs.click_s / POD_CORES / MAX_BUSY))
    encoders = max(1, ceil(load.new_images_per_s * costs.encode_s / MAX_BUSY))
    held = 1000 * 10**6 // model.prepared_bytes
    while True:
        shape = Shape(apis, POD_CORES, encoders, POD_CORES, held)
        # Ten thousand annotators click as often in 15 s as a thousand in 150.
        outcome = simulate(costs, shape, load, SIMULATED_S if load.annotators <= 1000 else SIMULATED_S / 4)
        enough_apis, enough_encoders = fits(model, shape, outcome)
        if enough_apis and enough_encoders:
            return shape, outcome
        apis += 0 if enough_apis else ceil(apis / 10)
        encoders += 0 if enough_encoders else ceil(encoders / 10)


def describe(model: Model, load: Load) -> Measurement:
    """Return the row of a size."""
    shape, outcome = find_shape(model, load)
    masks_gb = load.clicks_per_s * MASK_TTL_S * model.mask_bytes / 1e9
    embeddings_gb = load.new_images_per_s * WORK_DAY_S * model.embedding_bytes / 1e9
    # Each new embedding is written once and read once; each mask is written.
    traffic_mb = (
        2 * load.new_images_per_s * model.embedding_bytes + load.clicks_per_s * model.mask_bytes
    ) / 1e6
    clicks = ", ".join(f"{percentile_ms(outcome.cached, percent):.0f}" for percent in (50, 99))
    return Measurement(
        f"{model.name}, {load.annotators:,} annotators: {load.clicks_per_s:,.0f} clicks, {load.new_images_per_s:.1f}"
        " new images a second",
        f"{shape.apis} API, {shape.encoders} encoders; clicks p50, p99 {clicks} ms; first p95"
        f" {percentile_ms(outcome.first, 95):,.0f} ms; Redis {masks_gb:,.0f} GB of masks, {embeddings_gb:,.0f} GB of a"
        f" day's embeddings, {traffic_mb:,.0f} MB/s",
    )


def measure() -> list[Measurement]:
    models = create_models()
    rows = compare(models[0].costs)
    for model in models:
        costs = model.costs
        told = f"{1000 * costs.click_s:.1f}, {1000 * costs.encode_s:.0f} ms"
        rows.append(Measurement(f"{model.name}: a click, an encode on {POD_CORES} cores", told))
        rows += [describe(model, Load(annotators)) for annotators in SIZES]
    return rows
