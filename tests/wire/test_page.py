"""The files of the page: how they are served, and that they fit each other. tests/clients drives the page."""

import asyncio
import gzip
import re
import threading
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.requests import Request

from segserve.app import Service
from segserve.settings import Settings
from segserve.wire.rest import page_files
from segserve.wire.rest.api import create_api
from segserve.wire.rest.page_files import PageFiles, find_clients_folder

CLIENTS = find_clients_folder()
WASM = "js/vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm"
MODULES = [
    path
    for path in sorted([*(CLIENTS / "web").rglob("*.js"), *(CLIENTS / "js" / "src").rglob("*.js")])
    if "vendor" not in path.parts
]
IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    service = Service(Settings(data_dir=tmp_path_factory.mktemp("data")))
    return TestClient(create_api(service), base_url="http://127.0.0.1:8000")


def addresses(html: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', html)


def test_all_that_the_page_names_is_there_and_cached_for_ever(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    named = addresses(page.text)
    assert len(named) > 40
    for address in named:
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "immutable" in answer.headers["cache-control"]


def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert "unsafe-inline" not in str(policy)
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=", page.text)
    assert all(address.startswith("/clients/") for address in addresses(page.text))


def test_a_browser_that_has_a_file_is_told_so(client: TestClient) -> None:
    for address in ("/", addresses(client.get("/").text)[0]):
        tag = client.get(address).headers["etag"]
        again = client.get(address, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")


def test_large_files_go_compressed_to_those_who_take_it(client: TestClient) -> None:
    (address,) = [name for name in addresses(client.get("/").text) if "openseadragon" in name]
    packed = client.get(address, headers={"Accept-Encoding": "gzip"})
    plain = client.get(address, headers={"Accept-Encoding": "gzip;q=0, identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < len(plain.content) / 3


def test_the_decoder_of_browsers_is_served_from_its_compressed_file(client: TestClient) -> None:
    digest = addresses(client.get("/").text)[0].split("/")[2]
    address = f"/clients/{digest}/{WASM}"
    answer = client.get(address, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == "application/wasm"
    packed = CLIENTS / "js" / "vendor" / "onnxruntime-web" / "ort-wasm-simd-threaded.wasm.gz"
    assert answer.content == gzip.decompress(packed.read_bytes())
    assert client.get(address, headers={"Accept-Encoding": "identity"}).content == answer.content


def test_a_compressed_file_is_unpacked_once_and_not_in_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = list[int]()

    def unpack(data: bytes) -> bytes:
        threads.append(threading.get_ident())
        return b"unpacked"

    monkeypatch.setattr(page_files.gzip, "decompress", unpack)
    files = PageFiles(CLIENTS)
    request = Request({"type": "http", "headers": []})

    async def send() -> bytes:
        return bytes((await files.send(files.digest, WASM, request)).body)

    async def send_several() -> list[bytes]:
        return await asyncio.gather(*(send() for _ in range(5)))

    assert asyncio.run(send_several()) == [b"unpacked"] * 5
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


def test_an_unknown_file_is_refused_and_an_old_address_gets_the_new_file(client: TestClient) -> None:
    for path in ("web/none.js", "web/../../pyproject.toml", "web/README.md", "python/src/x.py"):
        assert client.get(f"/clients/0123/{path}").status_code == 404, path
    old = client.get("/clients/0123/web/main.js")
    assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(CLIENTS).as_posix())
def test_modules_import_files_that_are_served(path: Path) -> None:
    served = {(CLIENTS / name).resolve() for name in PageFiles(CLIENTS).names()}
    for target in IMPORT.findall(path.read_text()):
        assert (path.parent / target).resolve() in served, target


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for path in [*(CLIENTS / "web").rglob("*.css"), CLIENTS / "web" / "index.html", *MODULES]:
        urls = re.findall(
            r"""https?://[\w-]+\.[^\s"'`<>]+""",
            re.sub(r"/\*.*?\*/|^\s*//.*$", "", path.read_text(), flags=re.S | re.M),
        )
        assert [url for url in urls if "://www.w3.org/" not in url] == [], path
