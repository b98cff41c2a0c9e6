"""Real `segserve` processes."""

import os
import re
import signal
import ssl
import time
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import httpx

from tests.forked_program import start_segserve

START_TIMEOUT_S = 180
JOB_TIMEOUT_S = 180
STOP_TIMEOUT_S = 120


class Process:
    """A `segserve` command on free ports.

    env: adds SEGSERVE_ variables. arguments: of the command. address_pattern: finds the address in its output, which
    is kept in the file `log`. tls: of our client; None trusts public authorities.
    """

    arguments: ClassVar[tuple[str, ...]]
    address_pattern: ClassVar[str]
    # Whether an interpreter of its own runs it. Otherwise it, and the process that reads its files, are forked.
    is_started_anew: ClassVar[bool] = False

    def __init__(self, data_dir: Path, *, tls: ssl.SSLContext | None = None, **env: str) -> None:
        self.data_dir, self._verify = data_dir, True if tls is None else tls
        data_dir.mkdir(parents=True, exist_ok=True)
        self.log = data_dir / f"{self.arguments[0]}-{uuid4().hex[:6]}.log"
        self._env = {**os.environ, **{f"SEGSERVE_{k.upper()}": v for k, v in env.items()}}
        self.start()

    def start(self) -> None:
        with self.log.open("w") as log:
            arguments = [*self.arguments, "--data-dir", str(self.data_dir)]
            self.process = start_segserve(
                arguments, self._env, log, log, is_started_anew=self.is_started_anew
            )
        self.url = self._wait_for_url()
        self.client = httpx.Client(base_url=self.url, timeout=60, verify=self._verify)

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if match := re.search(self.address_pattern, self.log.read_text()):
                return match[1]
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
        """Kill the process, as the kernel does when memory runs out: it cannot clean up."""
        self.client.close()
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop the process, as an operator does, by SIGTERM. Return its exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_TIMEOUT_S)

    def metric(self, line: str) -> float:
        """Return the value of a metric, 0 if it has none yet. line: name and labels as /metrics shows them."""
        for sample in self.client.get("/metrics").text.splitlines():
            name, _, value = sample.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0


class Server(Process):
    """The API, and what a client does with it."""

    arguments = ("serve", "--port", "0")
    address_pattern = r"answers at (https?://\S+)"

    def upload(self, picture: bytes | Path, **query: str) -> str:
        data = picture.read_bytes() if isinstance(picture, Path) else picture
        answer = self.client.post("/v1/images", files={"file": ("picture", data)}, params=query)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["image_id"])

    def grpc_address(self) -> str:
        """Return host and port of gRPC. The service was started with a `grpc_port`."""
        match = re.search(r"gRPC at (\S+)", self.log.read_text())
        assert match
        return match[1]

    def click(self, image_id: str, x: float, y: float, **body: object) -> httpx.Response:
        prompt = {"points": [[x, y]], "labels": [1]}
        return self.client.post("/v1/segment", json={"image_id": image_id, "prompts": [prompt], **body})

    def find_address(self, pattern: str) -> str:
        """Return what a group of the pattern matches in the output: an address that it prints."""
        match = re.search(pattern, self.log.read_text())
        assert match, self.log.read_text()
        return match[1]

    def client_from(self, address: str) -> httpx.Client:
        """A client that connects from this address of loopback, which counts as another client than our own."""
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=self.url, transport=transport, timeout=60)


class ServerStartedAnew(Server):
    """The API with all processes that it has when a user starts it."""

    is_started_anew = True


class Worker(Process):
    """A job worker. url: of its metrics."""

    arguments = ("worker", "--metrics-port", "0")
    address_pattern = r"metrics: (https?://\S+)/metrics"


class Encoder(Process):
    """An encoder worker. url: of its metrics. target: its gRPC address."""

    arguments = ("encoder", "--metrics-port", "0")
    address_pattern = r"metrics: (https?://\S+)/metrics"

    def __init__(
        self, data_dir: Path, *, port: int = 0, tls: ssl.SSLContext | None = None, **env: str
    ) -> None:
        super().__init__(data_dir, tls=tls, **env, encoder_port=str(port))
        match = re.search(r"encodes at (\S+)", self.log.read_text())
        assert match
        self.target = match[1]
        # The same port after a restart, so that clients find it again.
        self._env["SEGSERVE_ENCODER_PORT"] = self.target.rpartition(":")[2]


def run_embed_job(client: httpx.Client, image_ids: list[str]) -> dict[str, Any]:
    """Run a batch job that embeds the images, and return the job once it has ended."""
    body = {"kind": "batch", "input": {"image_ids": image_ids}, "params": {"operation": "embed"}}
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
        job = client.get(f"/v1/jobs/{job['job_id']}").json()
    return job
