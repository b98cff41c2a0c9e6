"""Images are fetched by URL from real servers over real sockets, and never from private addresses (SSRF)."""

import asyncio
import gzip
import io
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from segserve import outbound_http
from segserve.errors import BadInput, FetchFailed, NotAllowed, SegserveError, TooLarge
from segserve.images.fetch_url import ImageFetcher
from segserve.outbound_http import Address, is_public
from tests.serving import Server
from tests.wire.test_bad_input import refused

HERE, INNER = "127.0.0.1", "127.0.0.2"
IMAGE = b"the bytes of an image" * 1000
MAX_BYTES = 1_000_000

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """An HTTP server; `requests` holds the Host and the path of each request."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str | None, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append((self.headers["Host"], self.path))
                site.headers = self.headers
                with suppress(BrokenPipeError, ConnectionResetError):
                    site.answers.get(self.path, answer(200, IMAGE))(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((address, port), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"http://{address}:{self.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    def send(to: BaseHTTPRequestHandler) -> None:
        to.send_response(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(body)

    return send


@pytest.fixture
def site() -> Iterator[Site]:
    with closing(Site(HERE)) as running:
        yield running


@pytest.fixture
def inner() -> Iterator[Site]:
    """A server that must not be reached."""
    with closing(Site(INNER)) as running:
        yield running


class FakeResolver:
    """A resolver of the given names; a name with several answers gives a new one at each call."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self.addresses = {name.replace("_", "."): list(answers) for name, answers in addresses.items()}
        self.resolved: list[str] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.resolved.append(host)
        answers = self.addresses[host]
        return [ip_address(a) for a in (answers.pop(0) if len(answers) > 1 else answers[0]).split()]


def fetch(url: str, *hosts: str, private: bool = True, timeout_s: float = 30, **options: Any) -> bytes:
    file = io.BytesIO()
    fetcher = ImageFetcher(hosts, private=private, timeout_s=timeout_s, max_bytes=MAX_BYTES, **options)
    asyncio.run(fetcher.fetch(url, file))
    return file.getvalue()


@contextmanager
def expect_refusal(error: type[SegserveError], words: str) -> Iterator[pytest.ExceptionInfo[SegserveError]]:
    with pytest.raises(error, match=words) as raised:
        yield raised
    assert type(raised.value) is error
    assert raised.value.field == "url"
    assert raised.value.remedy


def test_an_image_is_fetched(site: Site) -> None:
    assert fetch(f"{site.url}/a.png?x=1#y", HERE) == IMAGE
    assert site.requests == [(f"{HERE}:{site.port}", "/a.png?x=1")]
    assert site.headers["accept-encoding"] == "identity"


def test_proxies_of_the_environment_are_ignored(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(site.url, HERE) == IMAGE


def test_hosts_must_be_on_the_allowlist(site: Site) -> None:
    names = FakeResolver(images_test=[HERE], a_images_test=[HERE], a_b_images_test=[HERE])

    def request(host: str, *hosts: str) -> bytes:
        return fetch(f"http://{host}:{site.port}/", *hosts, resolve=names)

    assert request("images.test", "images.test") == IMAGE
    assert request("IMAGES.test", "Images.Test") == IMAGE
    assert request("a.images.test", "*.images.test") == IMAGE
    assert request("a.b.images.test", "*.images.test") == IMAGE
    resolved = len(names.resolved)
    for host in ("images.test", "evilimages.test", "images.test.evil.test", "x.test", HERE):
        with expect_refusal(NotAllowed, "may not be fetched"):
            request(host, "*.images.test")
    assert len(names.resolved) == resolved, "a name that is not allowed is never resolved"
    with expect_refusal(NotAllowed, "off"):
        request("images.test")


NOT_PUBLIC = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "198.18.0.1"),
    *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "::7f00:1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:0.0.0.0"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
    *("2001::1", "100::1"),
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))
    with expect_refusal(NotAllowed, "not public"):
        fetch(
            "http://images.test/", "images.test", private=False, resolve=FakeResolver(images_test=[address])
        )
    mixed = FakeResolver(images_test=[f"1.1.1.1 {address}"])
    with expect_refusal(NotAllowed, "not public"):
        fetch("http://images.test/", "images.test", private=False, resolve=mixed)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))


SPELLINGS = [
    *(
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "127.1",
        "0",
        "0.0.0.0",
    ),
    *(
        "169.254.169.254",
        "2852039166",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::]",
        "127。0。0。1",
    ),
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_spellings_of_addresses_of_this_machine(site: Site, host: str) -> None:
    """Each spelling is on the allowlist by mistake; still the address that it resolves to is checked."""
    with expect_refusal(NotAllowed, "not public"):
        fetch(f"http://{host}:{site.port}/", host.strip("[]"), HERE, private=False)
    assert site.requests == []


@pytest.mark.parametrize("host", ["localhost.", "127.0.0.1.", "１２７.0.0.1", "%6c%6f%63alhost"])
def test_spellings_that_not_every_system_reads(site: Site, host: str) -> None:
    with pytest.raises(SegserveError) as raised:
        fetch(f"http://{host}:{site.port}/", host, "localhost", HERE, private=False)
    assert raised.value.field == "url"
    assert site.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "scheme"),
        ("file://127.0.0.1/etc/passwd", "'file'"),
        ("ftp://127.0.0.1/x", "'ftp'"),
        ("gopher://127.0.0.1/x", "'gopher'"),
        ("data:image/png;base64,AAAA", "'data'"),
        ("/etc/passwd", "no host"),
        ("", "no host"),
        ("http://", "no host"),
        ("http:///x", "no host"),
        ("http://user@127.0.0.1/", "credentials"),
        ("http://user:secret@127.0.0.1/", "credentials"),
        ("http://127.0.0.1:x/", "no URL"),
        ("http://127.0.0.1/\r\nHost: other", "no URL"),
        ("http://127.0.0.1\x00.images.test/", "no URL"),
        ("http://[::1", "no URL"),
        ("http://999.1.1.1/", "no URL"),
        ("http://127.0.0.1:70000/", "port"),
        ("http://127.0.0.1:0/", "port"),
    ],
)
def test_urls_that_are_never_requested(url: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as raised:
        fetch(url, HERE)
    assert (type(raised.value), raised.value.field) == (BadInput, "url")


def test_a_name_is_resolved_once_against_dns_rebinding(site: Site) -> None:
    """A connection by name would resolve it again, and go to the second answer."""
    with closing(Site(INNER, port=site.port)) as inner:
        names = FakeResolver(images_test=[HERE, INNER])
        assert fetch(f"http://images.test:{site.port}/", "images.test", resolve=names) == IMAGE
        assert names.resolved == ["images.test"]
        assert site.requests == [(f"images.test:{site.port}", "/")]
        assert inner.requests == []


def test_the_next_address_is_tried_if_one_does_not_answer(site: Site) -> None:
    names = FakeResolver(images_test=[f"::1 127.0.0.3 {HERE}"])
    assert fetch(f"http://images.test:{site.port}/", "images.test", resolve=names) == IMAGE


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
        ("http://:bad", FetchFailed, "no URL"),
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


def test_a_port_that_nobody_listens_on() -> None:
    with closing(Site(HERE)) as gone:
        pass
    with expect_refusal(FetchFailed, "cannot be connected to"):
        fetch(gone.url, HERE)


def test_an_unknown_name() -> None:
    with expect_refusal(FetchFailed, "has no address"):
        fetch("http://nowhere.invalid/", "nowhere.invalid")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Create a self-signed certificate of images.test, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "images.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images.test -addext"
    parts = [
        *command.split(),
        "subjectAltName=DNS:images.test",
        "-keyout",
        str(path),
        "-out",
        str(path) + ".crt",
    ]
    subprocess.run(parts, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


def test_tls_verifies_the_name_and_not_the_address(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate)
    ours.sni_callback = lambda _, name, __: names.append(name)
    theirs = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(outbound_http.httpx, "create_ssl_context", lambda **_: theirs)
    resolver = FakeResolver(images_test=[HERE], other_test=[HERE])
    with closing(Site(HERE, tls=ours)) as site:
        url = f"https://{{}}:{site.port}/"
        assert fetch(url.format("images.test"), "*.test", "images.test", resolve=resolver) == IMAGE
        assert names == ["images.test"]
        with expect_refusal(FetchFailed, "cannot be connected to"):
            fetch(url.format("other.test"), "other.test", resolve=resolver)
        assert len(site.requests) == 1


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
    refused(request("http://example.org/"), 403, "not_allowed", "url")
    refused(request("file:///etc/passwd"), 422, "bad_input", "url")
    assert "404 (Not Found)" in refused(request(f"{site.url}/404"), 422, "fetch_failed", "url")["detail"]
    refused(request(f"{site.url}/large"), 413, "too_large", "url")
    refused(request(f"{site.url}/letter"), 415, "unsupported_format", "file")
    refused(request("x" * 5000), 422, "bad_input", "url")
    refused(fetching.client.post("/v1/images", json={}), 422, "bad_input", "url")
    refused(fetching.client.post("/v1/images", json={"url": "http://a/", "x": 1}), 422, "bad_input", "x")
    broken = {"content": b'{"url"', "headers": {"content-type": "application/json"}}
    refused(fetching.client.post("/v1/images", **broken), 400, "broken_json")
    assert "SEGSERVE_FETCH_HOSTS" in server.client.post("/v1/images", json={"url": site.url}).text


def test_the_openapi_document_describes_fetching(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    ways = document["paths"]["/v1/images"]["post"]["requestBody"]["content"]
    assert ways["application/json"]["schema"]["$ref"] == "#/components/schemas/FetchImageIn"
    assert "url" in document["components"]["schemas"]["FetchImageIn"]["properties"]
