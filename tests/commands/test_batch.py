"""`segserve batch`: many pictures, here or by a server, to the same files."""

import io
import json
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving import Server


def batch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "segserve.cli", "batch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def folder(tmp_path: Path, nuclei: Path) -> Path:
    """Two pictures, and one that is none."""
    inside = tmp_path / "pictures" / "a"
    inside.mkdir(parents=True)
    (inside / "one.png").write_bytes(nuclei.read_bytes())
    Image.open(nuclei).crop((0, 0, 200, 150)).save(inside / "two.png")
    (inside.parent / "broken.png").write_text("no picture")
    return inside.parent


def test_here_and_by_a_server_alike(tmp_path: Path, folder: Path, server: Server) -> None:
    outputs = [tmp_path / "here.ndjson", tmp_path / "there.ndjson"]
    for output, more in zip(
        outputs, [["--data-dir", str(tmp_path / "d")], ["--server", server.url]], strict=True
    ):
        done = batch(folder, "-o", output, "--param", "min_size=60", *more)
        assert done.returncode == 1, "one is broken"
        assert "broken.png: The file is in no image format that is read." in done.stderr
        assert "2 of 3 pictures" in done.stdout
    here, there = ({r["name"]: r for r in map(json.loads, p.read_text().splitlines())} for p in outputs)
    assert set(here) == set(there) == {"broken.png", "a/one.png", "a/two.png"}
    for name in ("a/one.png", "a/two.png"):
        assert here[name] == there[name]
        assert here[name]["objects"]


class Unsteady:
    """Stands between a client and a server. Of each request the first answer is lost, one way or another; `jobs` are
    those that the server named all the same."""

    def __init__(self, server: str) -> None:
        self.jobs: list[str] = []
        seen: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen[f"{self.command} {self.path}"] += 1
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                given = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                answer = httpx.request(
                    self.command, server + self.path, content=body, headers=given, timeout=60
                )
                if self.command == "POST" and self.path == "/v1/jobs":
                    outer.jobs.append(answer.json()["job_id"])
                first = seen[f"{self.command} {self.path}"] == 1
                if first and self.path == "/v1/jobs":
                    return  # nothing comes back
                if first and "/results" not in self.path:
                    self.send_response(503)
                    self.send_header("retry-after", "0")
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content[: len(answer.content) // 2] if first else answer.content)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def listening(self) -> Iterator["Unsteady"]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def test_a_server_that_is_away_now_and_then(tmp_path: Path, folder: Path, server: Server) -> None:
    (folder / "broken.png").unlink()
    output = tmp_path / "maps.ndjson"
    with Unsteady(server.url).listening() as between:
        done = batch(folder, "-o", output, "--server", between.url)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["name"] for line in output.read_text().splitlines()] == [
        "a/one.png",
        "a/two.png",
    ]
    assert len(between.jobs) == 2, "it asked again"
    assert len(set(between.jobs)) == 1, "and there is one job"


def test_label_maps_in_a_zip(tmp_path: Path, folder: Path) -> None:
    (folder / "broken.png").unlink()
    output = tmp_path / "maps.zip"
    done = batch(folder, "-o", output, "--operation", "semantic", "--data-dir", tmp_path / "d")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["000000-a_one.png", "000001-a_two.png"]
        found = np.asarray(Image.open(io.BytesIO(archive.read("000001-a_two.png"))))
    assert found.shape == (150, 200)
    assert set(np.unique(found)) == {0, 1}


def test_what_cannot_be_is_said_in_one_line(tmp_path: Path, folder: Path) -> None:
    for arguments, said in [
        (["-o", "x.gif"], "does not say what to write"),
        (["-o", "x.zip", "--param", "magic=1"], "magic"),
        (["-o", "x.zip", "--model", "nobody"], "no model 'nobody'"),
        (["-o", "x.zip", "--server", "http://127.0.0.1:9"], "cannot be reached"),
    ]:
        done = batch(folder, *arguments, "--data-dir", tmp_path / "d")
        assert done.returncode == 1
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
