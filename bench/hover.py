"""Pointers that hover over pictures: each asks for a mask ten times a second, as the labelling page does.

Beside it, how soon a service is ready, and what memory it takes, with either runtime.

BENCH_HOVER_S (default 30) is the length in seconds.
"""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from tests.serving import Server

from bench.load import expect_none, percentile_ms
from bench.load_clients import IMAGE_PX, REFUSED, connect, draw_image
from bench.measuring import REHEARSE, Measurement, at_most
from segserve.models.runtime.openvino_graph import has_openvino
from segserve.types import Runtime

HOVER_S = 2.0 if REHEARSE else float(os.environ.get("BENCH_HOVER_S", "30"))
POINTERS = 16
INTERVAL_S = 0.1
MAX_MOVE_PX = 16  # between two requests
GRID_PX = 8  # a pointer comes to the same place again, where it must get the same mask
STARTS = 1 if REHEARSE else 5
START_TIMEOUT_S = 60.0
ADDRESS = re.compile(r"answers at (http://\S+)")


@dataclass
class Answers:
    """Answers that the pointers got. seconds: from when each answer was due to be asked for."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: int = 0
    masks: dict[tuple[str, int, int], bytes] = field(default_factory=dict)


async def hover(server: Server, image_ids: list[str], answers: Answers) -> None:
    start = time.perf_counter() + 0.5
    await asyncio.gather(
        *(move_pointer(server, image_id, number, start, answers) for number, image_id in enumerate(image_ids))
    )


async def move_pointer(server: Server, image_id: str, seed: int, start: float, answers: Answers) -> None:
    """Ask for the mask under a pointer every INTERVAL_S. A late answer delays the next request, which counts."""
    choice = random.Random(seed)
    x, y = (choice.randrange(GRID_PX, IMAGE_PX - GRID_PX) for _ in range(2))
    due = start + choice.uniform(0, INTERVAL_S)
    async with connect(server.url, f"127.0.0.{seed + 2}") as post:
        while due < start + HOVER_S:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            x, y = (
                min(max(place + choice.randint(-MAX_MOVE_PX, MAX_MOVE_PX), 1), IMAGE_PX - 1)
                // GRID_PX
                * GRID_PX
                for place in (x, y)
            )
            body = {"image_id": image_id, "prompts": [{"points": [[x, y]]}]}
            status, content = await post(json.dumps(body).encode())
            answers.seconds.append(time.perf_counter() - due)
            if status in REFUSED:
                answers.refused += 1
            elif status != 200:
                answers.wrong += 1
            else:
                [[mask]] = [result["masks"] for result in json.loads(content)["results"]]
                shown = json.dumps([mask["mask"], mask["score"]]).encode()
                answers.wrong += answers.masks.setdefault((image_id, x, y), shown) != shown
            due += INTERVAL_S


def measure_hover() -> list[Measurement]:
    rng, answers = np.random.default_rng(0), Answers()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), log_level="error")
        try:
            server.wait_ready()
            image_ids = [server.upload(draw_image(rng)) for _ in range(POINTERS)]
            for image_id in image_ids:
                assert server.click(image_id, 100, 100).status_code == 200
            asyncio.run(hover(server, image_ids, answers))
            memory = server.metric("process_resident_memory_bytes") / 1e6
        finally:
            server.stop()
    name = f"{POINTERS} pointers, {1 / INTERVAL_S:.0f} requests a second each, {HOVER_S:.0f} s"
    percentiles = " ".join(f"{percentile_ms(answers.seconds, p):.1f}" for p in (50, 95, 99))
    return [
        Measurement(f"{name}: requests", str(len(answers.seconds))),
        Measurement(f"{name}: p50, p95, p99", f"{percentiles} ms"),
        at_most(f"{name}: p99", percentile_ms(answers.seconds, 99), 100, "ms"),
        expect_none(f"{name}: refused requests", answers.refused),
        expect_none(f"{name}: failed requests, other masks than before", answers.wrong),
        Measurement(f"{name}: resident memory of the service after it", f"{memory:.0f} MB"),
    ]


def start_service(folder: Path, runtime: Runtime) -> tuple[float, float]:
    """Start `segserve serve` as a program of its own; return (seconds until it is ready, its resident bytes)."""
    command = [sys.executable, "-m", "segserve.cli", "serve", "--port", "0", "--data-dir", str(folder)]
    environment = {**os.environ, "SEGSERVE_RUNTIME": runtime, "SEGSERVE_LOG_LEVEL": "error"}
    start = time.perf_counter()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as program:
        try:
            assert program.stderr is not None
            url = next(match[1] for line in program.stderr if (match := ADDRESS.search(line)))
            with httpx.Client(base_url=url) as client:
                while client.get("/readyz").status_code != 200:
                    assert time.perf_counter() < start + START_TIMEOUT_S
                    time.sleep(0.01)
                seconds = time.perf_counter() - start
                metrics = client.get("/metrics").text
        finally:
            program.send_signal(signal.SIGTERM)
            program.communicate()
    return seconds, float(metrics.split("\nprocess_resident_memory_bytes ")[1].split("\n")[0])


def measure_starts() -> list[Measurement]:
    """Start services in turn. The first start of each, which compiles graphs and files, does not count."""
    runtimes = [Runtime.ONNXRUNTIME, *([Runtime.OPENVINO] if has_openvino() else [])]
    found: dict[Runtime, list[tuple[float, float]]] = {runtime: [] for runtime in runtimes}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(STARTS + 1):
            for runtime in runtimes:
                measured = start_service(Path(folder) / runtime, runtime)
                if turn or REHEARSE:
                    found[runtime].append(measured)
    rows = []
    for runtime, starts in found.items():
        seconds, memory = np.median(starts, axis=0)
        rows += [
            at_most(f"from starting `segserve serve` to ready, encoders by {runtime}", seconds, 1.5, "s"),
            Measurement(f"resident memory when ready, encoders by {runtime}", f"{memory / 1e6:.0f} MB"),
        ]
    return rows


def measure() -> list[Measurement]:
    return [*measure_hover(), *measure_starts()]
