"""A real `segserve serve` process, as a user starts it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

START_TIMEOUT_S = 60


class Server:
    """Starts on a free port. `env` adds SEGSERVE_ variables. Its log is kept in `log`."""

    def __init__(self, data_dir: Path, **env: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir / "serve.log"
        data_dir.mkdir(parents=True, exist_ok=True)
        self._env = {**os.environ, **{f"SEGSERVE_{k.upper()}": v for k, v in env.items()}}
        self.start()

    def start(self) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "segserve.cli",
                    "serve",
                    "--port",
                    "0",
                    "--data-dir",
                    str(self.data_dir),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
            )
        self.url = self._wait_for_url()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _wait_for_url(self) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = re.search(r"answers at (http://\S+)", self.log.read_text())
            if found:
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the service did not start:\n{self.log.read_text()}")

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

    # What a client does.

    def upload(self, picture: bytes | Path, **query: str) -> str:
        data = picture.read_bytes() if isinstance(picture, Path) else picture
        answer = self.client.post("/v1/images", files={"file": ("picture", data)}, params=query)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["image_id"])

    def click(self, image_id: str, x: float, y: float, **body: object) -> httpx.Response:
        prompt = {"points": [[x, y]], "labels": [1]}
        return self.client.post("/v1/segment", json={"image_id": image_id, "prompts": [prompt], **body})
