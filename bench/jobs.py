"""A batch of images: how fast it goes, what annotators notice of it, and how long somebody's own job waits behind it.

One service with its own worker process, which is niced. BENCH_JOB_IMAGES (default 1000) is how many images a batch has.
"""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tests.serving import Server

from bench.common import THREADS, Line, at_least, at_most, median_ms
from bench.load import picture
from segserve.encode.preprocess import preprocess_image
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph

IMAGES = int(os.environ.get("BENCH_JOB_IMAGES", "1000"))
CLICKS, THINK_S = 300, 0.03
PATIENCE_S = 900.0


def submit(client: httpx.Client, image_ids: list[str], priority: str = "batch") -> str:
    body = {
        "kind": "batch",
        "priority": priority,
        "input": {"image_ids": image_ids},
        "params": {"operation": "embed"},
    }
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


def state(client: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return found


def ended(client: httpx.Client, job_id: str, look_s: float = 1.0) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while (job := state(client, job_id))["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(look_s)
    assert job["state"] == "succeeded", job
    assert not job["progress"]["failed"], job
    return job


def seconds(job: dict[str, Any], begin: str, end: str) -> float:
    return float((np.datetime64(job[end][:-6]) - np.datetime64(job[begin][:-6])) / np.timedelta64(1, "s"))


def bare_ms(inputs: Any) -> float:
    """Of one image, nothing but the encoder."""
    options = RuntimeOptions(threads=THREADS)
    model = ModelRegistry([BUILT_IN_MODELS], RuntimeOptionsByGraph(options, options, options), 1 << 40).load(
        "starter", PromptableModel
    )
    return median_ms(lambda: model.encode(preprocess_image(inputs, model.preprocess)), repeats=100)


def clicks(server: Server, image_id: str) -> list[float]:
    """Milliseconds of each, on an image whose embedding is held."""
    times = []
    for _ in range(CLICKS):
        time.sleep(THINK_S)
        begun = time.perf_counter()
        assert server.click(image_id, 100, 100).status_code == 200
        times.append(1000 * (time.perf_counter() - begun))
    return times


def measure() -> list[Line]:
    rng = np.random.default_rng(0)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), encode_threads=str(THREADS), log_level="error")
        server.wait_ready()
        try:
            lines += run(server, rng)
        finally:
            server.stop()
    return lines


def run(server: Server, rng: np.random.Generator) -> list[Line]:
    held = server.upload(picture(rng))
    assert server.click(held, 100, 100).is_success
    ended(server.client, submit(server.client, [held]), 0.1)  # the worker is there and has its model
    sample = rng.integers(0, 255, (256, 256, 3), np.uint8)

    first = [server.upload(picture(rng)) for _ in range(IMAGES)]
    before = bare_ms(sample)
    job = ended(server.client, submit(server.client, first))
    bare = (before + bare_ms(sample)) / 2
    each = 1000 * seconds(job, "started_at", "ended_at") / IMAGES

    second = [server.upload(picture(rng)) for _ in range(IMAGES)]
    quiet = clicks(server, held)
    batch = submit(server.client, second)
    while not state(server.client, batch)["progress"]["done"]:
        time.sleep(0.05)
    asked: list[dict[str, Any]] = []

    def somebody() -> None:
        time.sleep(2)
        with httpx.Client(base_url=server.url, timeout=60) as own:
            asked.append(ended(own, submit(own, [held], "interactive"), 0.05))

    waiting = threading.Thread(target=somebody)
    waiting.start()
    busy = clicks(server, held)
    running = state(server.client, batch)["state"] == "running"
    waiting.join()
    server.client.delete(f"/v1/jobs/{batch}")
    p99s = [float(np.percentile(times, 99)) for times in (quiet, busy)]
    waited = seconds(asked[0], "created_at", "started_at")
    return [
        Line(f"the encoder alone, an image of 256 x 256 ({THREADS} threads)", f"{bare:.1f} ms"),
        Line(f"a batch of {IMAGES} images, each", f"{each:.1f} ms"),
        at_least("throughput of the batch against the encoder alone", bare / each, 0.9),
        Line("clicks, quiet: p50, p99", f"{np.median(quiet):.1f}, {p99s[0]:.1f} ms"),
        Line(
            "clicks during a batch: p50, p99",
            f"{np.median(busy):.1f}, {p99s[1]:.1f} ms" + ("" if running else " (the batch had ended)"),
        ),
        at_most("p99 during a batch against quiet", p99s[1] / p99s[0], 2, "x"),
        at_most("an interactive job behind the batch begins after", waited, 1, "s"),
    ]
