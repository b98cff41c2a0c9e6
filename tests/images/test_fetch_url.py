"""Images are fetched by URL from real servers over real sockets; every redirect is checked (SSRF)."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from segserve import outbound_http
from segserve.errors import FetchFailed, NotAllowed, SegserveError, TooLarge
from segserve.outbound_http import is_public
from tests.images.http_site import (
    HERE,
    IMAGE,
    INNER,
    MAX_BYTES,
    FakeResolver,
    Site,
    answer,
    expect_refusal,
    fetch,
)
from tests.serving import Server
from tests.wire.responses import assert_refused


@pytest.fixture
def site() -> Iterator[Site]:
    with closing(Site(HERE)) as running:
        yield running


@pytest.fixture
def inner() -> Iterator[Site]:
    """A server that must not be reached."""
    with closing(Site(INNER)) as running:
        yield running


def test_an_image_is_fetched(site: Site) -> None:
    assert fetch(f"{site.url}/a.png?x=1#y", HERE) == IMAGE
    assert site.requests == [(f"{HERE}:{site.port}", "/a.png?x=1")]
    assert site.headers["accept-encoding"] == "identity"


@pytest.fixture
def here_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make 127.0.0.1 count as a public address; 127.0.0.2 stays private."""
    monkeypatch.setattr(
        outbound_http, "is_public", lambda address: str(address) == HERE or is_public(address)
    )


@pytest.mark.parametrize(
    ("location", "error", "words"),
    [
        ("http://{inner}/", NotAllowed, "may not be fetched"),
        ("//{inner}/", NotAllowed, "may not be fetched"),
        ("http://inner.test:{port}/", NotAllowed, "not public"),
        ("http://meta.test/latest/", NotAllowed, "not public"),
        ("http://[::ffff:127.0.0.2]:{port}/", NotAllowed, "may not be fetched"),
        ("http://0x7f000002:{port}/", NotAllowed, "may not be fetched"),
        ("http://user:secret@images.test:{port}/", FetchFailed, "credentials"),
        ("file:///etc/passwd", FetchFailed, "scheme"),
        ("http://:bad", FetchFailed, "not a URL"),
    ],
)
@pytest.mark.usefixtures("here_is_public")
def test_redirects_pass_the_same_checks(
    site: Site, inner: Site, location: str, error: type[SegserveError], words: str
) -> None:
    target = location.format(inner=f"{INNER}:{inner.port}", port=inner.port)
    names = FakeResolver(images_test=[HERE], inner_test=[INNER], meta_test=["169.254.169.254"])
    site.answers["/"] = answer(302, location=target)
    with expect_refusal(error, words):
        fetch(
            f"http://images.test:{site.port}/", "images.test", "inner.test", "meta.test",
            private=False, resolve=names,
        )  # fmt: skip
    assert inner.requests == []


@pytest.mark.usefixtures("here_is_public")
def test_a_name_that_becomes_private_between_redirects(site: Site) -> None:
    with closing(Site(INNER, port=site.port)) as inner:
        names = FakeResolver(images_test=[HERE, INNER])
        site.answers["/"] = answer(302, location="/again")
        with expect_refusal(NotAllowed, "not public"):
            fetch(f"http://images.test:{site.port}/", "images.test", private=False, resolve=names)
        assert inner.requests == []


def test_redirects_are_followed_three_times(site: Site) -> None:
    for n in range(3):
        site.answers[f"/{n}"] = answer((301, 307, 308)[n], location=f"{n + 1}")
    assert fetch(f"{site.url}/0", HERE) == IMAGE
    site.answers["/loop"] = answer(302, location="/loop")
    site.requests.clear()
    with expect_refusal(FetchFailed, "more than 3"):
        fetch(f"{site.url}/loop", HERE)
    assert len(site.requests) == 4


@pytest.mark.parametrize("status", [204, 206, 304, 401, 404, 500, 503, 599])
def test_an_error_status_is_reported_without_the_body(site: Site, status: int) -> None:
    site.answers["/"] = answer(status, b"" if status in (204, 304) else b"internal secrets")
    with expect_refusal(FetchFailed, f"status {status}") as raised:
        fetch(f"{site.url}/", HERE)
    assert "secret" not in str(raised.value)


def test_compressed_bodies_are_refused(site: Site) -> None:
    bomb = gzip.compress(bytes(100_000_000))
    site.answers["/"] = answer(200, bomb, content_encoding="gzip")
    with expect_refusal(FetchFailed, "gzip"):
        fetch(f"{site.url}/", HERE)


@pytest.mark.parametrize("stated", [True, False])
def test_endless_bodies_are_cut_off(site: Site, stated: bool) -> None:
    sent: list[int] = []

    def endless(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        if stated:
            to.send_header("content-length", "1" + "0" * 15)
        to.end_headers()
        for _ in range(10_000):
            sent.append(to.wfile.write(bytes(100_000)))

    site.answers["/"] = endless
    with expect_refusal(TooLarge, "over 1 MB"):
        fetch(f"{site.url}/", HERE)
    assert sum(sent) < 100_000_000


def test_an_image_of_just_the_limit(site: Site) -> None:
    site.answers["/"] = answer(200, bytes(MAX_BYTES))
    assert len(fetch(f"{site.url}/", HERE)) == MAX_BYTES


@pytest.mark.parametrize("part", ["headers", "body", "nothing", "redirects"])
def test_slow_answers_end_at_the_time_limit_for_the_whole_fetch(site: Site, part: str) -> None:
    stop = threading.Event()

    def slow(to: BaseHTTPRequestHandler) -> None:
        if part == "redirects":
            stop.wait(0.5)
            answer(302, location="/")(to)
            return
        if part != "nothing":
            to.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n")
            to.wfile.write(b"\r\n" if part == "body" else b"")
        while not stop.wait(0.1):
            if part != "nothing":
                to.wfile.write(b"X-A: b\r\n")

    site.answers["/"] = slow
    start = time.monotonic()
    try:
        with expect_refusal(FetchFailed, "longer than 1 s"):
            fetch(f"{site.url}/", HERE, timeout_s=1)
    finally:
        stop.set()
    assert time.monotonic() - start < 20  # far less than the answer takes


def test_a_host_that_is_no_web_server(site: Site) -> None:
    site.answers["/"] = lambda to: to.wfile.write(b"SSH-2.0-secret\r\n") and None  # type: ignore[func-returns-value]
    with expect_refusal(FetchFailed, "does not answer as a web server"):
        fetch(f"{site.url}/", HERE)
    site.answers["/"] = answer(200, b"short", content_length="1000")
    with expect_refusal(FetchFailed, "broke off"):
        fetch(f"{site.url}/", HERE)


# Over the service


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("fetching"), fetch_hosts=f'["{HERE}"]', fetch_private="true", max_image_mb="1"
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_a_fetched_image_is_the_same_as_an_uploaded_one(fetching: Server, site: Site, nuclei: Path) -> None:
    site.answers["/nuclei.png"] = answer(200, nuclei.read_bytes())
    sent = fetching.client.post(
        "/v1/images", json={"url": f"{site.url}/nuclei.png"}, params={"normalise": "minmax"}
    )
    assert sent.status_code == 201, sent.text
    assert sent.json()["image_id"] == fetching.upload(nuclei, normalise="minmax")
    assert fetching.click(sent.json()["image_id"], 413, 190).status_code == 200


def test_refused_fetches_are_problem_documents(fetching: Server, server: Server, site: Site) -> None:
    def request(url: str) -> Any:
        return fetching.client.post("/v1/images", json={"url": url})

    site.answers |= {
        "/404": answer(404),
        "/letter": answer(200, b"this is a letter"),
        "/large": answer(200, bytes(1_000_001)),
    }
    assert_refused(request("http://example.org/"), 403, "not_allowed", "url")
    assert_refused(request("file:///etc/passwd"), 422, "bad_input", "url")
    assert (
        "404 (Not Found)" in assert_refused(request(f"{site.url}/404"), 422, "fetch_failed", "url")["detail"]
    )
    assert_refused(request(f"{site.url}/large"), 413, "too_large", "url")
    assert_refused(request(f"{site.url}/letter"), 415, "unsupported_format", "file")
    assert_refused(request("x" * 5000), 422, "bad_input", "url")
    assert_refused(fetching.client.post("/v1/images", json={}), 422, "bad_input")
    assert_refused(
        fetching.client.post("/v1/images", json={"url": "http://a/", "x": 1}), 422, "bad_input", "x"
    )
    broken = {"content": b'{"url"', "headers": {"content-type": "application/json"}}
    assert_refused(fetching.client.post("/v1/images", **broken), 400, "broken_json")
    assert "SEGSERVE_FETCH_HOSTS" in server.client.post("/v1/images", json={"url": site.url}).text


def test_the_openapi_document_describes_fetching(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    ways = document["paths"]["/v1/images"]["post"]["requestBody"]["content"]
    assert ways["application/json"]["schema"]["$ref"] == "#/components/schemas/FetchImageIn"
    assert "url" in document["components"]["schemas"]["FetchImageIn"]["properties"]
