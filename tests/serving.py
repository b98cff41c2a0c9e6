"""Real `segserve` processes, as a user starts them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import httpx

START_TIMEOUT_S = 60
JOB_TIMEOUT_S = 90


class Process:
    """A `segserve` command on free ports. `env` adds SEGSERVE_ variables. Its log is kept in `log`."""

    arguments: ClassVar[tuple[str, ...]]
    listens: ClassVar[str]  # what it says once it does, with the address

    def __init__(self, data_dir: Path, **env: str) -> None:
        self.data_dir = data_dir
        data_dir.mkdir(parents=True, exist_ok=True)
        self.log = data_dir / f"{self.arguments[0]}-{uuid4().hex[:6]}.log"
        self._env = {**os.environ, **{f"SEGSERVE_{k.upper()}": v for k, v in env.items()}}
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "segserve.cli", *self.arguments, "--data-dir", str(self.data_dir)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=self._env)
        self.url = self._wait_for_url()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = re.search(self.listens, self.log.read_text())
            if found:
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"it did not start:\n{self.log.read_text()}")

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, self.client.get("/readyz").text
            time.sleep(0.02)

    def kill(self) -> None:
        """As the kernel kills: at once, nothing is tidied."""
        self.client.close()
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As an operator stops: SIGTERM. The exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def metric(self, line: str) -> float:
        """The value of a metric, 0 where it has none yet. line: name and labels as they are exposed."""
        for each in self.client.get("/metrics").text.splitlines():
            name, _, value = each.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0


class Server(Process):
    arguments = ("serve", "--port", "0")
    listens = r"answers at (http://\S+)"

    # What a client does.

    def upload(self, picture: bytes | Path, **query: str) -> str:
        data = picture.read_bytes() if isinstance(picture, Path) else picture
        answer = self.client.post("/v1/images", files={"file": ("picture", data)}, params=query)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["image_id"])

    def click(self, image_id: str, x: float, y: float, **body: object) -> httpx.Response:
        prompt = {"points": [[x, y]], "labels": [1]}
        return self.client.post("/v1/segment", json={"image_id": image_id, "prompts": [prompt], **body})


class Worker(Process):
    """A job worker; `url` is where its metrics are."""

    arguments = ("worker", "--metrics-port", "0")
    listens = r"metrics: (http://\S+)/metrics"


class Encoder(Process):
    """An encoder worker; `url` is where its metrics are, `target` where it encodes."""

    arguments = ("encoder", "--metrics-port", "0")
    listens = r"metrics: (http://\S+)/metrics"

    def __init__(self, data_dir: Path, *, port: int = 0, **env: str) -> None:
        super().__init__(data_dir, **env, encoder_port=str(port))
        found = re.search(r"encodes at (\S+)", self.log.read_text())
        assert found
        self.target = found[1]
        self._env["SEGSERVE_ENCODER_PORT"] = self.target.rpartition(":")[
            2
        ]  # to be found again after a restart


def embedded(client: httpx.Client, image_ids: list[str]) -> dict[str, Any]:
    """A batch job that embeds the images, as it ended."""
    asked = {"kind": "batch", "input": {"image_ids": image_ids}, "params": {"operation": "embed"}}
    answer = client.post("/v1/jobs", json=asked)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
        job = client.get(f"/v1/jobs/{job['job_id']}").json()
    return job
