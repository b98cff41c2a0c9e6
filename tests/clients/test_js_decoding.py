"""Decoding outside of the service, by the JavaScript client: it gives the service's masks, in Node and in a browser."""

import base64
import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from platformdirs import user_cache_path

from tests.docs_blocks import ROOT
from tests.serving import Server

pytestmark = pytest.mark.clients

SCRIPTS = Path(__file__).parent / "js"
VENDOR = ROOT / "clients" / "js" / "vendor" / "onnxruntime-web"
WASM = "ort-wasm-simd-threaded.wasm"
TIMEOUT_S = 600
MIN_IOU = 0.999
MAX_SCORE_ERROR = 2e-3
LINK_S = 0.5  # how much later the answers of a slow link come
QUIET_MOVES = 8  # of the pointer, for which nothing is asked any more

NUCLEUS = [413, 190]
REQUESTS: list[dict[str, Any]] = [
    *({"prompts": [{"points": [point]}]} for point in (NUCLEUS, [537, 348], [120, 90], [20, 500], [690, 10])),
    {"prompts": [{"points": [NUCLEUS]}], "select": "all"},
    {"prompts": [{"points": [NUCLEUS]}], "select": "first"},
    {"prompts": [{"points": [NUCLEUS]}], "multimask": False, "raw": True},
    {"prompts": [{"box": [380, 160, 445, 225]}]},
    {"prompts": [{"box": [100, 60, 300, 260]}]},
    {"prompts": [{"points": [NUCLEUS], "box": [380, 160, 445, 225]}]},
    {"prompts": [{"points": [NUCLEUS, [440, 215]], "labels": [1, 0]}]},
    {"prompts": [{"points": [NUCLEUS]}], "refine": {"points": [NUCLEUS, [440, 215]], "labels": [1, 0]}},
    {"prompts": [{"points": [[400 + 4 * i, 180 + 3 * i] for i in range(12)]}]},  # the graph for many points
]


def make_sam2(folder: Path) -> None:
    """Write a bundle of SAM 2's tiny network for small images, with random weights."""
    pytest.importorskip("sam2", reason="sam2 is not installed")
    from segserve.models.export.sam2 import export_sam2
    from tests.sam2_memory.reference import network

    export_sam2(network(image_size=256), folder, name=folder.name, architecture="hiera_2.1_tiny")


def pull_mobile_sam(folder: Path) -> None:
    """Pull the published MobileSAM once for all runs, and link it."""
    cache = user_cache_path("segserve-tests") / "pulled"
    if not (cache / "models" / "mobile-sam" / "model.yaml").is_file():
        command = [
            sys.executable,
            "-m",
            "segserve.cli",
            "models",
            "pull",
            "mobile-sam",
            "--data-dir",
            str(cache),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            pytest.skip(f"mobile-sam cannot be pulled: {done.stderr[-300:]}")
    folder.symlink_to(cache / "models" / "mobile-sam")


MODELS = {"starter": None, "sam2-small": make_sam2, "mobile-sam": pull_mobile_sam}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, service: Server) -> str:
    name: str = request.param
    make, folder = MODELS[name], service.data_dir / "models" / name
    if make is not None and not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        make(folder)
    return name


class ClientFiles(http.server.SimpleHTTPRequestHandler):
    """Serves the repository as the service serves the page: the same policy, the WebAssembly compressed."""

    policy: ClassVar[str] = ""
    extensions_map: ClassVar[dict[str, str]] = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def do_GET(self) -> None:
        if self.path == "/":
            self.answer(
                b'<!doctype html><script type="module" src="/tests/clients/js/decode_page.mjs"></script>', {}
            )
        elif self.path.endswith(".wasm"):
            content = (VENDOR / f"{WASM}.gz").read_bytes()
            self.answer(content, {"Content-Type": "application/wasm", "Content-Encoding": "gzip"})
        else:
            super().do_GET()

    def answer(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {
            "Content-Type": "text/html",
            "Content-Length": str(len(content)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    handler = functools.partial(ClientFiles, directory=ROOT)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as static:
        threading.Thread(target=static.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{static.server_port}"
        static.shutdown()


@pytest.fixture(scope="module")
def service(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("service"), cors_origins=f'["{origin}"]')
    running.wait_ready()
    ClientFiles.policy = (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self';"
        f" connect-src 'self' {running.url}"
    )
    yield running
    assert running.stop() == 0


def check(results: list[dict[str, Any]]) -> None:
    assert len(results) == len(REQUESTS)
    assert sum(max(result["areas"]) > 0 for result in results) > len(results) / 2
    for request, result in zip(REQUESTS, results, strict=True):
        assert result["by"] == ["browser", "server"], result["reason"]
        assert min(result["ious"]) >= MIN_IOU, (request, result)
        assert max(result["scores"]) <= MAX_SCORE_ERROR, (request, result)
        assert result["cleaned"][0] == result["cleaned"][1], (request, result)


def test_in_node(model: str, service: Server, nuclei: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, SCRIPTS / "decode.mjs", service.url, nuclei, model, VENDOR]
    requests = json.dumps(REQUESTS)
    done = subprocess.run(command, input=requests, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    check(json.loads(done.stdout))


def test_in_a_browser(model: str, service: Server, origin: str, nuclei: Path) -> None:
    api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    picture = base64.b64encode(nuclei.read_bytes()).decode()
    options = {"url": service.url, "picture": picture, "model": model, "requests": REQUESTS}
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(TIMEOUT_S * 1000)
        messages: list[str] = []
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("console", lambda message: messages.append(message.text) if message.type == "error" else None)
        page.goto(origin)
        page.wait_for_function("() => Boolean(globalThis.compare)")
        results = page.evaluate("options => compare(options)", options)
        browser.close()
    assert messages == []
    check(results)


def test_the_page_decodes_where_the_service_is_slow(service: Server, nuclei: Path) -> None:
    """Over a slow link, hovering asks the service for some masks, and then for none any more."""
    api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    asked: list[str] = []

    def answer_late(route: Any) -> None:
        asked.append(route.request.url)
        time.sleep(LINK_S)
        route.continue_()

    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        messages: list[str] = []
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("console", lambda message: messages.append(message.text) if message.type == "error" else None)
        page.route("**/segment", answer_late)
        page.goto(service.url)
        page.set_input_files("input[type=file]", nuclei)
        deadline, moves, quiet = time.monotonic() + TIMEOUT_S, 0, 0
        while not asked or quiet < QUIET_MOVES:
            assert time.monotonic() < deadline
            before = len(asked)
            page.mouse.move(400 + 37 * moves % 250, 300 + 23 * moves % 200)
            page.wait_for_timeout(2000 * LINK_S)
            moves, quiet = moves + 1, quiet + 1 if len(asked) == before else 0
        browser.close()
    assert messages == []
