"""A batch job of many images: its throughput, clicks meanwhile, and the wait of an interactive job behind it.

One service runs with its own worker process, which is niced. BENCH_JOB_IMAGES (default 1000) is the number of images of
a batch.
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

from bench.load_clients import draw_image
from bench.measuring import THREADS, Measurement, at_least, at_most, measure_median_ms
from segserve.encode.preprocess import preprocess_image
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.runtime_options import RuntimeOptions

IMAGES = int(os.environ.get("BENCH_JOB_IMAGES", "1000"))
CLICKS = 300
THINK_S = 0.03  # between clicks
MAX_WAIT_S = 900.0  # for a job to end


def submit_job(client: httpx.Client, image_ids: list[str], priority: str = "batch") -> str:
    """Submit a batch that computes embeddings, and return its job id."""
    body = {
        "kind": "batch",
        "priority": priority,
        "input": {"image_ids": image_ids},
        "params": {"operation": "embed"},
    }
    response = client.post("/v1/jobs", json=body)
    assert response.status_code == 202, response.text
    job_id: str = response.json()["job_id"]
    return job_id


def get_job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
    return job


def wait_for_job(client: httpx.Client, job_id: str, poll_s: float = 1.0) -> dict[str, Any]:
    """Wait until a job has succeeded, and return it."""
    deadline = time.monotonic() + MAX_WAIT_S
    while (job := get_job(client, job_id))["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(poll_s)
    assert job["state"] == "succeeded", job
    assert not job["progress"]["failed"], job
    return job


def seconds_between(job: dict[str, Any], begin: str, end: str) -> float:
    """Return the seconds between two timestamps of a job."""
    return float((np.datetime64(job[end][:-6]) - np.datetime64(job[begin][:-6])) / np.timedelta64(1, "s"))


def measure_encoder_ms(image: Any) -> float:
    """Return the time of the encoder alone, for one image."""
    options = RuntimeOptions(threads=THREADS)
    model = ModelRegistry([BUILT_IN_MODELS], RuntimeOptionsByGraph(options, options, options), 1 << 40).load(
        "starter", PromptableModel
    )
    return measure_median_ms(lambda: model.encode(preprocess_image(image, model.preprocess)), repeats=100)


def measure_clicks(server: Server, image_id: str) -> list[float]:
    """Return the milliseconds of each click on an image whose embedding is cached."""
    times = []
    for _ in range(CLICKS):
        time.sleep(THINK_S)
        start = time.perf_counter()
        assert server.click(image_id, 100, 100).status_code == 200
        times.append(1000 * (time.perf_counter() - start))
    return times


def measure() -> list[Measurement]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), encode_threads=str(THREADS), log_level="error")
        server.wait_ready()
        try:
            return run_batches(server, rng)
        finally:
            server.stop()


def run_batches(server: Server, rng: np.random.Generator) -> list[Measurement]:
    encoded = server.upload(draw_image(rng))
    assert server.click(encoded, 100, 100).is_success
    wait_for_job(server.client, submit_job(server.client, [encoded]), 0.1)  # the worker has loaded its model
    sample = rng.integers(0, 255, (256, 256, 3), np.uint8)

    first = [server.upload(draw_image(rng)) for _ in range(IMAGES)]
    before = measure_encoder_ms(sample)
    job = wait_for_job(server.client, submit_job(server.client, first))
    encoder_ms = (before + measure_encoder_ms(sample)) / 2
    image_ms = 1000 * seconds_between(job, "started_at", "ended_at") / IMAGES

    second = [server.upload(draw_image(rng)) for _ in range(IMAGES)]
    quiet = measure_clicks(server, encoded)
    batch = submit_job(server.client, second)
    while not get_job(server.client, batch)["progress"]["done"]:
        time.sleep(0.05)
    interactive: list[dict[str, Any]] = []

    def run_interactive_job() -> None:
        time.sleep(2)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            interactive.append(wait_for_job(client, submit_job(client, [encoded], "interactive"), 0.05))

    user = threading.Thread(target=run_interactive_job)
    user.start()
    busy = measure_clicks(server, encoded)
    running = get_job(server.client, batch)["state"] == "running"
    user.join()
    server.client.delete(f"/v1/jobs/{batch}")
    p99s = [float(np.percentile(times, 99)) for times in (quiet, busy)]
    waited = seconds_between(interactive[0], "created_at", "started_at")
    return [
        Measurement(f"the encoder alone, an image of 256 x 256 ({THREADS} threads)", f"{encoder_ms:.1f} ms"),
        Measurement(f"a batch of {IMAGES} images, per image", f"{image_ms:.1f} ms"),
        at_least("throughput of the batch against the encoder alone", encoder_ms / image_ms, 0.9),
        Measurement("clicks, quiet: p50, p99", f"{np.median(quiet):.1f}, {p99s[0]:.1f} ms"),
        Measurement(
            "clicks during a batch: p50, p99",
            f"{np.median(busy):.1f}, {p99s[1]:.1f} ms" + ("" if running else " (the batch had ended)"),
        ),
        at_most("p99 during a batch against quiet", p99s[1] / p99s[0], 2, "x"),
        at_most("an interactive job behind the batch begins after", waited, 1, "s"),
    ]
