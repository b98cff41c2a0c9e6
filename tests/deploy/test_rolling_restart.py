"""API, encoders and workers are replaced one by one under 32 annotators: no click fails, and no job is lost.

They run as processes with the settings of deploy/kubernetes, behind HAProxy with its configuration. Each is stopped
before the next one starts, which is harder than what a Deployment does: that starts the new pod first.
"""

import asyncio
import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import grpc
import httpx
import numpy as np
import pytest

from segserve.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.conftest import ExternalRedis
from tests.deploy.kubernetes_manifests import environment, overlay
from tests.deploy.test_balancer import find_free_port, write_config
from tests.drawn_discs import draw_discs
from tests.serving import Encoder, Process, Server, Worker

ANNOTATORS = 32
GRPC_ANNOTATORS = 4  # of them
THINK_S = 2.0  # mean time between clicks
CLICKS_PER_IMAGE = 15
IMAGE_PX = 256
JOB_IMAGES = 12
QUIET_S = 9.0  # before, after, and between two restarts a third of it
JOB_TIMEOUT_S = 300.0
READY_TIMEOUT_S = 300.0
PERCENTILES = (50, 99, 100)
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is missing: apt-get install haproxy"),
]


def find_lasting_port() -> int:
    """Return a free port that nobody gets for a connection of his own while a replica restarts."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, lowest)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


class FixedServer(Server):
    """A replica that has the same ports after a restart."""

    arguments: ClassVar[tuple[str, ...]] = ("serve",)


def pod_environment(component: str, **changed: str) -> dict[str, str]:
    """Return the settings of a pod, as `Process` takes them, but for addresses."""
    variables = environment(overlay("cpu"), component)
    fixed = {
        name.removeprefix("SEGSERVE_").lower(): value
        for name, value in variables.items()
        if name.startswith("SEGSERVE_") and name != "SEGSERVE_DATA_DIR"  # an option of `Process`
    }
    # A machine that is busy with other work too answers late, and Redis is no part of this test.
    return {**fixed, "host": "127.0.0.1", "log_level": "warning", "redis_timeout_s": "30", **changed}


class Deployment:
    """`Deployment` runs two of everything, two Redis and the balancer."""

    def __init__(self, folder: Path, cache: ExternalRedis, jobs: ExternalRedis) -> None:
        command = [
            sys.executable,
            "-m",
            "segserve.cli",
            "keys",
            "add",
            "annotators",
            "--file",
            folder / "keys.json",
        ]
        self.key = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        data = folder / "data"
        shared = {"redis_url": cache.url}
        one_thread = {"encode_threads": "1"}  # two of everything share a few cores
        self.encoders = [
            Encoder(data, **pod_environment("encoder", **shared, **one_thread)) for _ in range(2)
        ]
        shared["jobs_redis_url"] = jobs.url
        shared["encoder_url"] = "ipv4:" + ",".join(encoder.target for encoder in self.encoders)
        # All annotators have one address here, and where the machine is slow nobody is refused for that: a refusal is a
        # failure of this test.
        one_thread = {
            "decode_threads": "1",
            "decode_workers": "8",
            "decode_target_ms": "60000",
            "max_client_share": "1",
        }
        self.workers = [Worker(data, **pod_environment("worker", **shared, **one_thread)) for _ in range(2)]
        self.replicas: list[Server] = [
            FixedServer(
                data,
                **pod_environment(
                    "api",
                    **shared,
                    **one_thread,
                    port=str(find_lasting_port()),
                    grpc_port=str(find_lasting_port()),
                    operator_port=str(find_lasting_port()),
                    keys_file=str(folder / "keys.json"),
                    trusted_proxies='["127.0.0.0/8"]',
                ),
            )
            for _ in range(2)
        ]
        for process in self.processes:
            process.wait_ready()
        ports = {":8000": find_free_port(), ":8001": find_free_port(), "127.0.0.1:8009": find_free_port()}
        write_config(folder / "haproxy.cfg", self.replicas, ports)
        self.url, self.grpc_address = f"http://127.0.0.1:{ports[':8000']}", f"127.0.0.1:{ports[':8001']}"
        with (folder / "haproxy.log").open("w") as log:
            self.balancer = subprocess.Popen(
                ["haproxy", "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, (folder / "haproxy.log").read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=10).is_success
        except httpx.HTTPError:
            return False

    @property
    def processes(self) -> list[Process]:
        return [*self.replicas, *self.encoders, *self.workers]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def stop(self) -> None:
        self.balancer.terminate()
        self.balancer.wait(timeout=60)
        for process in self.processes:
            process.kill()


def restart(process: Process) -> None:
    """Replace a process as an update does. It ends by itself, with 0."""
    process.client.close()
    process.process.terminate()
    assert process.process.wait(timeout=120) == 0, process.log.read_text()
    process.start()
    deadline = time.monotonic() + READY_TIMEOUT_S  # workers have the lowest priority of the machine
    while not is_ready(process):
        assert time.monotonic() < deadline, process.log.read_text()
        time.sleep(0.1)


def is_ready(process: Process) -> bool:
    try:
        return process.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Observations:
    """What annotators met. seconds: of clicks that were answered. failures: all else. phase: what is replaced now."""

    phase: str = "nothing"
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    masks: dict[tuple[str, int, int], str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    jobs: dict[str, list[str]] = field(default_factory=dict)

    def record(self, key: tuple[str, int, int], mask: str, seconds: float) -> None:
        """Record a mask. The same click must always give the same one, whoever answers."""
        self.seconds.append(seconds)
        if self.masks.setdefault(key, mask) != mask:
            self.failures.append(f"another mask than before for {key}")


class Annotator:
    """`Annotator` uploads an image, clicks on it and thinks. Like a browser, it tries nothing twice."""

    def __init__(self, deployment: Deployment, observations: Observations, number: int) -> None:
        self._deployment, self._observations = deployment, observations
        self._random, self._rng = random.Random(number), np.random.default_rng(number)
        self._uses_grpc = number < GRPC_ANNOTATORS

    async def run(self, done: asyncio.Event) -> None:
        await asyncio.sleep(self._random.uniform(0, THINK_S))
        async with (
            httpx.AsyncClient(
                base_url=self._deployment.url, headers=self._deployment.headers, timeout=90
            ) as client,
            grpc.aio.insecure_channel(self._deployment.grpc_address) as channel,
        ):
            stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
            while not done.is_set():
                try:
                    await self._annotate_image(client, stub, done)
                except (httpx.HTTPError, grpc.aio.AioRpcError) as error:
                    self._observations.failures.append(
                        f"while {self._observations.phase} is replaced: {error!r}"
                    )

    async def _annotate_image(self, client: httpx.AsyncClient, stub: Any, done: asyncio.Event) -> None:
        answer = await client.post("/v1/images", files={"file": draw_discs(self._rng, IMAGE_PX)})
        if answer.status_code != 201:
            self._observations.failures.append(f"upload: {answer.status_code} {answer.text}")
            await asyncio.sleep(THINK_S)
            return
        image_id = str(answer.json()["image_id"])
        self._observations.images.append(image_id)
        for _ in range(CLICKS_PER_IMAGE):
            if done.is_set():
                return
            x, y = (int(value) for value in self._rng.integers(0, IMAGE_PX, 2) // 64 * 64 + 32)
            start = time.perf_counter()
            click = (
                self._click_by_grpc(stub, image_id, x, y)
                if self._uses_grpc
                else self._click(client, image_id, x, y)
            )
            mask = await click
            if mask is not None:
                self._observations.record((image_id, x, y), mask, time.perf_counter() - start)
            await asyncio.sleep(self._random.expovariate(1 / THINK_S))

    async def _click(self, client: httpx.AsyncClient, image_id: str, x: int, y: int) -> str | None:
        body = {"prompts": [{"points": [[x, y]]}]}
        answer = await client.post(f"/v1/images/{image_id}/segment", json=body)
        if answer.status_code != 200:
            self._observations.failures.append(f"click: {answer.status_code} {answer.text}")
            return None
        return str(answer.json()["results"][0]["masks"][0]["mask"]["counts"])

    async def _click_by_grpc(self, stub: Any, image_id: str, x: int, y: int) -> str:
        point = segmentation_pb2.Point(x=x, y=y)
        request = segmentation_pb2.SegmentRequest(
            image_id=image_id, prompts=[segmentation_pb2.Prompt(points=[point])]
        )
        metadata = (*self._deployment.headers.items(), ("x-image-id", image_id))
        answer = await stub.Segment(request, metadata=metadata, timeout=90)
        return str(answer.results[0].masks[0].rle.counts)


async def submit_jobs(deployment: Deployment, observations: Observations, done: asyncio.Event) -> None:
    """Submit batch jobs of the newest images, a few at a time."""
    async with httpx.AsyncClient(base_url=deployment.url, headers=deployment.headers, timeout=90) as client:
        while not done.is_set():
            ids = observations.images[-JOB_IMAGES:]
            body = {"kind": "batch", "input": {"image_ids": ids}, "params": {"operation": "embed"}}
            if ids:
                answer = await client.post("/v1/jobs", json=body)
                if answer.status_code == 202:
                    observations.jobs[answer.json()["job_id"]] = ids
                else:
                    observations.failures.append(f"job: {answer.status_code} {answer.text}")
            await asyncio.sleep(2 * THINK_S)


async def annotate(deployment: Deployment, observations: Observations, capsys: Any) -> None:
    """Let annotators work while every process is replaced."""
    done = asyncio.Event()
    work = [Annotator(deployment, observations, number).run(done) for number in range(ANNOTATORS)]
    tasks = [asyncio.create_task(each) for each in (*work, submit_jobs(deployment, observations, done))]
    first = 0
    try:
        await asyncio.sleep(QUIET_S)
        for name, process in [
            ("nothing", None),
            *[(each.arguments[0], each) for each in deployment.processes],
        ]:
            observations.phase = name
            if process is not None:
                await asyncio.to_thread(restart, process)
            await asyncio.sleep(QUIET_S / 3)
            seconds, first = observations.seconds[first:], len(observations.seconds)
            times = ", ".join(
                f"{1000 * np.percentile(seconds or [0], percent):.0f}" for percent in PERCENTILES
            )
            with capsys.disabled():
                print(f"\n{name} replaced: {len(seconds)} clicks, p50, p99, longest: {times} ms", end="")
        await asyncio.sleep(QUIET_S)
    finally:
        done.set()
        await asyncio.gather(*tasks)
        with capsys.disabled():
            print(f"\n{len(observations.images)} images, {len(observations.jobs)} jobs", end="")
            print(f"; failures: {Counter(observations.failures).most_common(5)}")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    cache, jobs = (ExternalRedis(tmp_path_factory.mktemp("r")) for _ in range(2))
    running = Deployment(tmp_path_factory.mktemp("rolling"), cache, jobs)
    yield running
    running.stop()
    cache.kill()
    jobs.kill()


def read_job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while True:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["state"] not in ("queued", "running"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.2)


def test_no_click_fails_and_no_job_is_lost(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    observations = Observations()
    asyncio.run(annotate(deployment, observations, capsys))
    assert not observations.failures, Counter(observations.failures).most_common(10)
    assert len(observations.seconds) > 10 * ANNOTATORS
    assert len(observations.jobs) > 10
    with httpx.Client(base_url=deployment.url, headers=deployment.headers, timeout=60) as client:
        for job_id, ids in observations.jobs.items():
            job = read_job(client, job_id)
            assert (job["state"], job["progress"]["failed"]) == ("succeeded", 0), job
            lines = client.get(f"/v1/jobs/{job_id}/results").text.splitlines()
            assert [json.loads(line)["image_id"] for line in lines] == ids, "each image once, in order"
