"""One tenant floods, another clicks as a person does: how much later does the second have its answers?

Two replicas, two encoder workers, a job worker and one Redis on loopback. The flood: clicks of 16 clients that wait for
their answers and for nothing else, first clicks on new images of four, and batch jobs without a pause. BENCH_FAIRNESS_S
(default 60) is how many seconds are measured, quiet and flooded each. The flood has a process of its own, so that the
service is measured, and not the one who measures.
"""

import asyncio
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.conftest import ExternalRedis
from tests.key_files import write_key_file
from tests.serving import Encoder, Process, Server, Worker

from bench.load import lower_priority, percentile_ms
from bench.load_clients import IMAGE_PX, REFUSED, REFUSED_PAUSE_S, draw_image
from bench.measuring import Measurement, at_most
from segserve.identity.identity import Identity
from segserve.types import AccessRole

MEASURED_S = float(os.environ.get("BENCH_FAIRNESS_S", "60"))
MAX_RATIO = 1.5
CALM, FLOOD = "calm", "flood"
THINK_S = 0.3  # mean time between two clicks of the person
CLICKS_PER_IMAGE = 10
FLOOD_CLICKERS = 16
FLOOD_ENCODERS = 4
FLOOD_JOB_IMAGES = 32


class Deployment:
    """`Deployment` runs all processes, and has a key for each tenant. Workers are niced, so that clicks come first."""

    def __init__(self, folder: Path) -> None:
        (folder / "cache").mkdir()
        (folder / "jobs").mkdir()
        identities = [Identity(name, AccessRole.ANNOTATOR, name) for name in (CALM, FLOOD)]
        self.keys = write_key_file(folder / "keys.json", identities)
        self.redis = [ExternalRedis(folder / "cache"), ExternalRedis(folder / "jobs", "--appendonly", "yes")]
        shared = {
            "redis_url": self.redis[0].url,
            "jobs_redis_url": self.redis[1].url,
            "encode_threads": "1",
            "decode_threads": "1",
            "log_level": "error",
        }
        self.encoders = [Encoder(folder, **shared) for _ in range(2)]
        shared["encoder_url"] = "ipv4:" + ",".join(encoder.target for encoder in self.encoders)
        self.worker = Worker(folder, **shared)
        for process in (*self.encoders, self.worker):
            lower_priority(process)
        self.servers = [Server(folder, **shared, keys_file=str(folder / "keys.json")) for _ in range(2)]
        for server in self.servers:
            server.wait_ready()

    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    def stop(self) -> None:
        processes: list[Process] = [*self.servers, *self.encoders, self.worker]
        for process in processes:
            process.stop()
        for redis in self.redis:
            redis.kill()


def open_client(url: str, key: str, address: str = "127.0.0.1") -> httpx.AsyncClient:
    """address: that it calls from."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    headers = {"authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=90, transport=transport)


async def upload(client: httpx.AsyncClient, rng: np.random.Generator) -> str | None:
    """Upload a new image. Returns None where it is refused."""
    answer = await client.post("/v1/images", files={"file": ("discs.png", draw_image(rng))})
    return answer.json()["image_id"] if answer.status_code == 201 else None


async def click(client: httpx.AsyncClient, image_id: str, rng: np.random.Generator) -> int:
    x, y = (int(value) for value in rng.integers(0, IMAGE_PX, 2))
    body = {"image_id": image_id, "prompts": [{"points": [[x, y]]}]}
    return (await client.post("/v1/segment", json=body)).status_code


async def click_as_a_person(deployment: Deployment) -> tuple[list[float], list[float], Counter[int]]:
    """Return the seconds of clicks on known images and of first clicks, and the statuses of what was refused."""
    known: list[float] = []
    first: list[float] = []
    refused: Counter[int] = Counter()
    rng, pauses = np.random.default_rng(time.time_ns()), random.Random(1)
    until, turn = time.monotonic() + MEASURED_S, 0
    while time.monotonic() < until:
        turn += 1
        async with open_client(deployment.urls()[turn % 2], deployment.keys[CALM]) as client:
            image_id = await upload(client, rng)
            if image_id is None:
                refused[0] += 1
                continue
            for number in range(CLICKS_PER_IMAGE):
                began = time.perf_counter()
                status = await click(client, image_id, rng)
                seconds = time.perf_counter() - began
                if status == 200:
                    (known if number else first).append(seconds)
                else:
                    refused[status] += 1
                await asyncio.sleep(pauses.expovariate(1 / THINK_S))
    return known, first, refused


class Flood:
    """`Flood` sends what it can, each client from an address of its own. urls: of the replicas."""

    def __init__(self, urls: list[str], key: str) -> None:
        self._urls, self._key = urls, key
        self.done: Counter[str] = Counter()
        self.has_begun = asyncio.Event()

    async def run(self) -> None:
        clients: list[Callable[[int], Coroutine[Any, Any, None]]] = [self._click] * FLOOD_CLICKERS
        clients += [self._encode] * FLOOD_ENCODERS
        clients += [self._run_jobs]
        await asyncio.gather(*(run(number) for number, run in enumerate(clients)))

    def _client(self, number: int) -> httpx.AsyncClient:
        return open_client(self._urls[number % 2], self._key, f"127.0.1.{1 + number}")

    async def _click(self, number: int) -> None:
        rng = np.random.default_rng(number)
        image_id: str | None = None
        async with self._client(number) as client:
            while True:
                if image_id is None:
                    image_id = await upload(client, rng)
                    continue
                status = await click(client, image_id, rng)
                self.done["clicks" if status == 200 else "refused clicks"] += 1
                if self.done["clicks"] >= FLOOD_CLICKERS:
                    self.has_begun.set()
                if status in REFUSED:
                    await asyncio.sleep(REFUSED_PAUSE_S)

    async def _encode(self, number: int) -> None:
        rng = np.random.default_rng(1000 + number)
        async with self._client(number) as client:
            while True:
                image_id = await upload(client, rng)
                status = 503 if image_id is None else await click(client, image_id, rng)
                self.done["first clicks" if status == 200 else "refused first clicks"] += 1
                if status in REFUSED:
                    await asyncio.sleep(REFUSED_PAUSE_S)

    async def _run_jobs(self, number: int) -> None:
        rng = np.random.default_rng(2000)
        async with self._client(number) as client:
            while True:
                images = [
                    image_id for _ in range(FLOOD_JOB_IMAGES) if (image_id := await upload(client, rng))
                ]
                body = {"kind": "batch", "input": {"image_ids": images}, "params": {"operation": "automatic"}}
                job = (await client.post("/v1/jobs", json=body)).json()
                while job.get("state") in ("queued", "running"):
                    await asyncio.sleep(1)
                    job = (await client.get(f"/v1/jobs/{job['job_id']}")).json()
                self.done["jobs"] += 1


async def flood_until_told(urls: list[str], key: str, told: Connection) -> None:
    """Flood until something comes through the pipe. Send a word when it has begun, and what it had since."""
    flood = Flood(urls, key)
    flooding = asyncio.create_task(flood.run())
    await flood.has_begun.wait()
    told.send("begun")
    flood.done.clear()
    while not told.poll():
        if flooding.done():
            flooding.result()
        await asyncio.sleep(0.1)
    flooding.cancel()
    told.send(flood.done)


def run_flood(urls: list[str], key: str, told: Connection) -> None:
    """The process of the flood. Niced: on real machines it would not take our cores."""
    os.nice(5)
    asyncio.run(flood_until_told(urls, key, told))


async def observe(deployment: Deployment) -> list[Measurement]:
    await click_as_a_person(deployment)  # until all is warm
    quiet = await click_as_a_person(deployment)
    ours, theirs = multiprocessing.Pipe()
    arguments = deployment.urls(), deployment.keys[FLOOD], theirs
    flooding = multiprocessing.get_context("spawn").Process(target=run_flood, args=arguments)
    flooding.start()
    await asyncio.to_thread(ours.recv)  # it has begun
    flooded = await click_as_a_person(deployment)
    ours.send("stop")
    done: Counter[str] = await asyncio.to_thread(ours.recv)
    flooding.join()
    rows = []
    for number, what in enumerate(("clicks on known images", "first clicks")):
        before, after = quiet[number], flooded[number]
        for percent in (50, 99):
            values = percentile_ms(before, percent), percentile_ms(after, percent)
            rows.append(
                Measurement(
                    f"{what}, p{percent}, quiet and under flood", f"{values[0]:.1f}, {values[1]:.1f} ms"
                )
            )
        ratio = percentile_ms(after, 99) / percentile_ms(before, 99)
        rows.append(at_most(f"{what}: p99 under flood against quiet", ratio, MAX_RATIO, "x"))
    refused = sum(quiet[2].values()) + sum(flooded[2].values())
    rows.append(Measurement("refused requests of the one who clicks", str(refused), "0", refused == 0))
    rows.append(
        Measurement("meanwhile the flood had", ", ".join(f"{count} {what}" for what, count in done.items()))
    )
    return rows


def measure() -> list[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(Path(folder))
        try:
            return asyncio.run(observe(deployment))
        finally:
            deployment.stop()
