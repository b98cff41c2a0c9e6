"""The page of docs/clients.md in a real browser, served from another origin than the service."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.docs_blocks import ROOT, read_blocks
from tests.serving import Server

pytestmark = pytest.mark.clients

# Whether a pixel of the canvas is greener than it is red: the grey picture has none such.
GREENER = """([x, y]) => {
  const [red, green] = document.querySelector("canvas").getContext("2d").getImageData(x, y, 1, 1).data;
  return green > red + 20;
}"""


def is_answered(answer: Any) -> bool:
    """Whether it is the answer to the request itself, not to the browser's question whether it may be sent."""
    return bool(answer.ok and answer.request.method == "POST")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    extensions_map: ClassVar[dict[str, str]] = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
    }

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """A static server of the files as the page tells to save them, but with the service's address."""
    handler = functools.partial(QuietHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as static:
        threading.Thread(target=static.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{static.server_port}"
        static.shutdown()


def test_a_click_paints_the_nucleus(origin: str, tmp_path: Path, nuclei: Path) -> None:
    api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    blocks: dict[str, str] = {}  # the first of each language
    for block in read_blocks(ROOT / "docs" / "clients.md"):
        blocks.setdefault(block.language, block.text)
    server = Server(tmp_path / "data", cors_origins=f'["{origin}"]')
    (tmp_path / "segserve.mjs").write_text(blocks["javascript"].replace("http://127.0.0.1:8000", server.url))
    (tmp_path / "index.html").write_text(blocks["html"])
    (tmp_path / "clients").symlink_to(ROOT / "clients")
    server.wait_ready()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 800, "height": 700})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{origin}/index.html")
        with page.expect_response(
            lambda answer: answer.url.endswith("/v1/images?model=starter") and answer.status == 201
        ):
            page.set_input_files("input", nuclei)
        assert not page.evaluate(GREENER, [413, 190])
        with page.expect_response(lambda answer: answer.url.endswith("/segment") and is_answered(answer)):
            page.click("canvas", position={"x": 413, "y": 190})
        page.wait_for_function(GREENER, arg=[413, 190])
        assert not page.evaluate(GREENER, [10, 10])
        assert errors == []
        browser.close()
    assert server.stop() == 0
