"""`segserve serve --processes N` for N of 1, 2 and 4: clicks a second, how long they take, processor time and memory.

The starter, eight clients that wait for their answers, on the same cores. The deployments take turns.
"""

import asyncio
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from tests.serving import Server

from bench.load import percentile_ms
from bench.load_clients import closed_loop, draw_image
from bench.measuring import REHEARSE, Measurement

COUNTS = (1, 2, 4)
CLIENTS = 8
ROUND_S = 1.0 if REHEARSE else 5.0
ROUNDS = 1 if REHEARSE else 3


@dataclass
class Deployment:
    """One service. seconds: of each click of many clients. alone: of a single client. cpu_s: of the service."""

    server: Server
    body: bytes
    seconds: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def list_processes(self) -> list[psutil.Process]:
        supervisor = psutil.Process(self.server.process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def read_cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.list_processes())

    def run_round(self) -> None:
        servers = [self.server, self.server]
        self.alone += asyncio.run(closed_loop(servers, self.body, 1, ROUND_S / 2))
        before = self.read_cpu_s()
        self.seconds += asyncio.run(closed_loop(servers, self.body, CLIENTS, ROUND_S))
        self.cpu_s += self.read_cpu_s() - before


def start(folder: Path, count: int) -> Deployment:
    server = Server(folder, processes=str(count), log_level="error", max_client_share="1")
    server.wait_ready()
    image_id = server.upload(draw_image(np.random.default_rng(1)))
    body = json.dumps({"image_id": image_id, "prompts": [{"points": [[100, 100]]}]}).encode()
    # On many connections, so that every process has the image.
    asyncio.run(closed_loop([server, server], body, 4 * CLIENTS, 1.0))
    return Deployment(server, body)


def measure() -> list[Measurement]:
    deployments: dict[int, Deployment] = {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for count in COUNTS:
                deployments[count] = start(Path(folder) / str(count), count)
            for _ in range(ROUNDS):
                for deployment in deployments.values():
                    deployment.run_round()
            for count, each in deployments.items():
                name = f"{count} process" + ("es" if count > 1 else "")
                memory = sum(process.memory_info().rss for process in each.list_processes()) / 1e6
                clicks = len(each.seconds)
                percentiles = " ".join(f"{percentile_ms(each.seconds, p):.1f}" for p in (50, 99))
                rows += [
                    Measurement(
                        f"{name}: clicks a second of {CLIENTS} clients", f"{clicks / ROUND_S / ROUNDS:.0f}"
                    ),
                    Measurement(f"{name}: p50, p99 of these", f"{percentiles} ms"),
                    Measurement(f"{name}: p50 of one client", f"{percentile_ms(each.alone, 50):.1f} ms"),
                    Measurement(f"{name}: processor time a click", f"{1000 * each.cpu_s / clicks:.1f} ms"),
                    Measurement(f"{name}: resident memory, all together", f"{memory:.0f} MB"),
                ]
        finally:
            for deployment in deployments.values():
                deployment.server.stop()
    return rows
