"""`segserve batch`: many images, here or by a server, to the same files."""

import io
import json
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

from tests.commands.run_command import run_segserve
from tests.http_listener import listening
from tests.serving import Server


@pytest.fixture
def folder(tmp_path: Path, nuclei: Path) -> Path:
    """A folder with two images, and a file that is no image."""
    inside = tmp_path / "images" / "a"
    inside.mkdir(parents=True)
    (inside / "one.png").write_bytes(nuclei.read_bytes())
    Image.open(nuclei).crop((0, 0, 200, 150)).save(inside / "two.png")
    (inside.parent / "broken.png").write_text("no image")
    return inside.parent


def test_the_results_are_the_same_here_and_by_a_server(tmp_path: Path, folder: Path, server: Server) -> None:
    outputs = [tmp_path / "here.ndjson", tmp_path / "there.ndjson"]
    for output, more in zip(
        outputs, [["--data-dir", str(tmp_path / "d")], ["--server", server.url]], strict=True
    ):
        done = run_segserve("batch", folder, "-o", output, "--param", "min_size=60", *more)
        assert done.returncode == 1, "one is broken"
        assert "broken.png: The file is in no image format that is read." in done.stderr
        assert "2 of 3 images" in done.stdout
    here, there = ({r["name"]: r for r in map(json.loads, p.read_text().splitlines())} for p in outputs)
    assert set(here) == set(there) == {"broken.png", "a/one.png", "a/two.png"}
    for name in ("a/one.png", "a/two.png"):
        assert here[name] == there[name]
        assert here[name]["objects"]


class UnreliableProxy:
    """`UnreliableProxy` stands between a client and a server and loses the first answer to each request.

    jobs: ids of the jobs that the server has created.
    """

    def __init__(self, server: str) -> None:
        self.jobs: list[str] = []
        requests: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests[f"{self.command} {self.path}"] += 1
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                answer = httpx.request(
                    self.command, server + self.path, content=body, headers=headers, timeout=60
                )
                if self.command == "POST" and self.path == "/v1/jobs":
                    outer.jobs.append(answer.json()["job_id"])
                first = requests[f"{self.command} {self.path}"] == 1
                if first and self.path == "/v1/jobs":
                    return  # the connection closes without an answer
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
    def listening(self) -> Iterator["UnreliableProxy"]:
        with listening(self._server):
            yield self


def test_lost_answers_are_asked_for_again(tmp_path: Path, folder: Path, server: Server) -> None:
    (folder / "broken.png").unlink()
    output = tmp_path / "maps.ndjson"
    with UnreliableProxy(server.url).listening() as proxy:
        done = run_segserve("batch", folder, "-o", output, "--server", proxy.url)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["name"] for line in output.read_text().splitlines()] == [
        "a/one.png",
        "a/two.png",
    ]
    assert len(proxy.jobs) == 2, "the request was repeated"
    assert len(set(proxy.jobs)) == 1, "the Idempotency-Key makes it one job"


def test_label_maps_in_a_zip(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSERVE_DEFAULT_MODEL", "starter")  # of other operations
    (folder / "broken.png").unlink()
    output = tmp_path / "maps.zip"
    done = run_segserve(
        "batch", folder, "-o", output, "--operation", "semantic", "--data-dir", tmp_path / "d"
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(output) as archive:
        assert archive.namelist() == ["000000-a_one.png", "000001-a_two.png"]
        class_map = np.asarray(Image.open(io.BytesIO(archive.read("000001-a_two.png"))))
    assert class_map.shape == (150, 200)
    assert set(np.unique(class_map)) == {0, 1}


def test_mistakes_are_one_clear_line(tmp_path: Path, folder: Path) -> None:
    for arguments, message in [
        (["-o", "x.gif"], "does not say what to write"),
        (["-o", "x.zip", "--param", "magic=1"], "magic"),
        (["-o", "x.zip", "--model", "nobody"], "no model 'nobody'"),
        (["-o", "x.zip", "--server", "http://127.0.0.1:9"], "cannot be reached"),
    ]:
        done = run_segserve("batch", folder, *arguments, "--data-dir", tmp_path / "d")
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
