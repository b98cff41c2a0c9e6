"""Load on two replicas, two encoder workers and one Redis, by simulated annotators who click.

There are four scenarios: steady load, a worker that is killed again and again, an outage of Redis, and overload at five
times the capacity. BENCH_LOAD_S (default 300) is the length of the first two in seconds. BENCH_LOAD_PARTS names the
scenarios to run.
"""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.conftest import ExternalRedis
from tests.serving import Encoder, Process, Server

from bench import real_weights
from bench.load_clients import ANNOTATORS, REFUSED, Observations, annotate, closed_loop, draw_image, open_loop
from bench.measuring import Measurement, at_least, at_most
from segserve.errors import SegserveError

LOAD_S = float(os.environ.get("BENCH_LOAD_S", "300"))
KILL_INTERVAL_S = 30.0
OUTAGE_S = 10.0  # of Redis


class Deployment:
    """`Deployment` runs two replicas, two encoder workers and Redis.

    Workers are niced and have one thread each, so that clicks come first.
    """

    def __init__(self, folder: Path) -> None:
        (folder / "redis").mkdir()
        self.model = "starter"
        if real_weights.uses_real_weights():
            bundle = real_weights.open_bundle()
            self.model = bundle.name
            shutil.copytree(bundle.folder, folder / "models" / bundle.name)
        self.redis = ExternalRedis(folder / "redis")
        shared = {"redis_url": self.redis.url, "encode_threads": "1", "log_level": "error"}
        shared["default_model"] = self.model
        self.encoders = [Encoder(folder, **shared) for _ in range(2)]
        for encoder in self.encoders:
            lower_priority(encoder)
        url = "ipv4:" + ",".join(e.target for e in self.encoders)
        limits = {
            "decode_threads": "1",  # two replicas share two cores
            "decode_workers": "1",
            "prepared_mb": "64",  # soon full: memory that still grows is then a leak
        }
        self.servers = [Server(folder, **shared, **limits, encoder_url=url) for _ in range(2)]
        for process in self.processes:
            process.wait_ready()

    @property
    def processes(self) -> list[Process]:
        return [*self.servers, *self.encoders]

    def count_encoded(self) -> float:
        """Return the number of images that the workers have encoded."""
        metric = f'segserve_encoded_images_total{{model="{self.model}"}}'
        return sum(encoder.metric(metric) for encoder in self.encoders)

    def resident_mb(self) -> float:
        return sum(p.metric("process_resident_memory_bytes") for p in self.processes) / 1e6

    def stop(self) -> None:
        for process in self.processes:
            process.stop()
        self.redis.kill()


def lower_priority(process: Process) -> None:
    """Nice all threads of a process."""
    for task in Path(f"/proc/{process.process.pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(task.name), 10)


def percentile_ms(seconds: list[float], percent: float) -> float:
    return 1000 * float(np.percentile(seconds, percent)) if seconds else float("nan")


def click_rows(scenario: str, observations: Observations) -> list[Measurement]:
    """Return the percentiles of clicks on cached embeddings and of first clicks."""
    return [
        Measurement(
            f"{scenario}: clicks on cached embeddings, first clicks",
            f"{len(observations.cached)}, {len(observations.first)}",
        ),
        Measurement(
            f"{scenario}: cached p50, p95, p99",
            " ".join(f"{percentile_ms(observations.cached, p):.1f}" for p in (50, 95, 99)) + " ms",
        ),
        Measurement(
            f"{scenario}: first p50, p95, p99",
            " ".join(f"{percentile_ms(observations.first, p):.0f}" for p in (50, 95, 99)) + " ms",
        ),
    ]


def expect_none(label: str, count: int) -> Measurement:
    """Return a count whose target is 0."""
    return Measurement(label, str(count), "0", count == 0)


def steady(deployment: Deployment) -> list[Measurement]:
    """Measure clicks, encodes and memory under a steady load."""
    asyncio.run(annotate(deployment.servers, 90))  # until the cache of prepared embeddings is full
    encoded, memory = deployment.count_encoded(), deployment.resident_mb()
    observations = asyncio.run(annotate(deployment.servers, LOAD_S))
    extra = deployment.count_encoded() - encoded - len(observations.images)
    name = f"{ANNOTATORS} annotators, {LOAD_S:.0f} s"
    return [
        *click_rows(name, observations),
        expect_none(f"{name}: refused requests", len(observations.refused)),
        expect_none(f"{name}: failed requests, wrong answers", len(observations.errors)),
        Measurement(
            f"{name}: images, encodes beyond one each",
            f"{len(observations.images)}, {extra:+.0f}",
            "0",
            extra == 0,
        ),
        at_most(
            f"{name}: cached p99 against p50",
            percentile_ms(observations.cached, 99) / percentile_ms(observations.cached, 50),
            4,
            "x",
        ),
        Measurement(
            f"{name}: resident memory of all processes", f"{memory:.0f} -> {deployment.resident_mb():.0f} MB"
        ),
    ]


def killing(deployment: Deployment) -> list[Measurement]:
    """Measure clicks while one worker after the other is killed and restarted."""

    async def disturb() -> None:
        for turn in range(1000):
            await asyncio.sleep(KILL_INTERVAL_S)
            victim = deployment.encoders[turn % 2]
            victim.kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(victim.start)
            lower_priority(victim)

    observations = asyncio.run(annotate(deployment.servers, LOAD_S, disturb))
    name = f"a worker killed every {KILL_INTERVAL_S:.0f} s, {LOAD_S:.0f} s"
    failed = len(observations.refused) + len(observations.errors)
    return [*click_rows(name, observations), expect_none(f"{name}: failed or refused requests", failed)]


def without_redis(deployment: Deployment) -> list[Measurement]:
    """Measure clicks and refusals while Redis is killed and restarted."""
    killed_at = restarted_at = 0.0

    async def disturb() -> None:
        nonlocal killed_at, restarted_at
        await asyncio.sleep(20)
        killed_at = time.monotonic()
        deployment.redis.kill()
        await asyncio.sleep(OUTAGE_S)
        await asyncio.to_thread(deployment.redis.start)
        restarted_at = time.monotonic()
        await asyncio.sleep(3600)

    observations = asyncio.run(annotate(deployment.servers, 60, disturb))
    after = [when - restarted_at for when, _ in observations.refused if when > restarted_at]
    name = f"Redis away for {OUTAGE_S:.0f} s"
    return [
        *click_rows(name, observations),
        Measurement(f"{name}: requests refused with 503 and Retry-After", str(len(observations.refused))),
        expect_none(f"{name}: other failures, wrong answers", len(observations.errors)),
        expect_none(
            f"{name}: refusals before the outage", sum(when < killed_at for when, _ in observations.refused)
        ),
        at_most(f"{name}: last refusal after the outage", max(after, default=0.0), 5, "s"),
    ]


def overload(deployment: Deployment) -> list[Measurement]:
    """Click on one encoded image at five times the capacity.

    The capacity is the rate of four clients that each wait for their answers.
    """
    servers = deployment.servers
    image_id = servers[0].upload(draw_image(np.random.default_rng(1)))
    for server in servers:
        server.click(image_id, 100, 100)
    body = json.dumps({"image_id": image_id, "prompts": [{"points": [[100, 100]]}]}).encode()

    alone = asyncio.run(closed_loop(servers, body, 1, 5))
    capacity = len(asyncio.run(closed_loop(servers, body, 4, 5))) / 5
    results = asyncio.run(open_loop(servers, body, 5 * capacity, 10))
    accepted = [seconds for status, seconds in results if status == 200]
    shed = [seconds for status, seconds in results if status in REFUSED]
    after = asyncio.run(closed_loop(servers, body, 1, 3))
    name = "five times capacity"
    return [
        Measurement(
            "unloaded click p50, p99", f"{percentile_ms(alone, 50):.1f} {percentile_ms(alone, 99):.1f} ms"
        ),
        Measurement("capacity", f"{capacity:.0f} clicks/s"),
        Measurement(f"{name}: accepted, refused", f"{len(accepted)}, {len(shed)}"),
        expect_none(f"{name}: other answers", len(results) - len(accepted) - len(shed)),
        at_most(f"{name}: refused within, p99", percentile_ms(shed, 99), 50, "ms"),
        at_most(
            f"{name}: accepted p99 against unloaded",
            percentile_ms(accepted, 99) / percentile_ms(alone, 99),
            6,
            "x",
        ),
        at_least(f"{name}: accepted clicks against capacity", len(accepted) / 10 / capacity, 0.5),
        at_most(
            "right after: p50 against unloaded", percentile_ms(after, 50) / percentile_ms(alone, 50), 1.5, "x"
        ),
    ]


SCENARIOS: dict[str, Callable[[Deployment], list[Measurement]]] = {
    "steady": steady,
    "killing": killing,
    "without_redis": without_redis,
    "overload": overload,
}


def measure() -> list[Measurement]:
    rows = [real_weights.describe_weights("the starter's; images are drawn")]
    scenarios = os.environ.get("BENCH_LOAD_PARTS", ",".join(SCENARIOS)).split(",")
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(Path(folder))
        try:
            for scenario in scenarios:
                rows += SCENARIOS[scenario](deployment)
        except SegserveError as error:
            raise SystemExit(str(error)) from error
        finally:
            deployment.stop()
    return rows
