"""Clients that send too much, too slowly or too many at once, and what browsers are told.

The server has short timeouts; a test waits for what the server does, never for a time of its own.
"""

import re
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from segserve.wire.http.limits import SPARE_CONNECTIONS
from tests.serving import Server
from tests.wire.test_bad_input import refused

HANG_S = 60  # nothing takes as long unless it hangs
PAUSE_S = 0.2  # well under the server's timeouts of a second
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("strict"), header_timeout_s="1", body_timeout_s="1")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Open to other machines and to the pages of one other origin, with the usual timeouts and little room."""
    origins = '["https://labels.example.org"]'
    running = Server(
        tmp_path_factory.mktemp("public"), host="0.0.0.0", cors_origins=origins, max_in_flight="4"
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(autouse=True)
def still_serving(strict: Server, nuclei: object) -> Iterator[None]:
    yield
    assert strict.click(strict.upload(nuclei), 413, 190).status_code == 200  # type: ignore[arg-type]


def connect(server: Server, receive_buffer: int | None = None) -> socket.socket:
    link = socket.socket()
    if receive_buffer is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    link.settimeout(HANG_S)
    where = urlsplit(server.url)
    link.connect((where.hostname, where.port))
    return link


def until_closed(link: socket.socket) -> bytes:
    """What comes until the server closes. A reset is a way of closing."""
    seen = b""
    with suppress(ConnectionResetError):
        while part := link.recv(65536):
            seen += part
    return seen


def one_answer(link: socket.socket) -> bytes:
    """The next answer, which has a Content-Length."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += (part := link.recv(65536))
        assert part, seen
    head, _, body = seen.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
    while len(body) < length:
        body += link.recv(65536)
    return head + b"\r\n\r\n" + body


def dribble(link: socket.socket, *pieces: bytes) -> bytes:
    """Send the pieces one by one, the last for ever, until the server has had enough. Its answer."""
    link.settimeout(PAUSE_S)
    deadline, at = time.monotonic() + HANG_S, 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() < deadline:
            link.sendall(pieces[min(at, len(pieces) - 1)])
            at += 1
            with suppress(TimeoutError):
                if part := link.recv(65536):
                    link.settimeout(HANG_S)
                    return part + until_closed(link)
                return b""
    assert time.monotonic() < deadline, "the server never had enough"
    return b""


def answered(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head.lower()
    assert f"urn:segserve:problem:{code}".encode() in body
    assert b'"remedy"' in body


def rejected(server: Server, reason: str) -> float:
    text = server.client.get("/metrics").text
    found = re.search(rf'segserve_rejections_total{{reason="{reason}"}} (\S+)', text)
    return float(found[1]) if found else 0


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Headers


def test_a_client_that_sends_nothing_is_hung_up_on(strict: Server) -> None:
    with closing(connect(strict)) as link:
        assert until_closed(link) == b""


def test_dribbling_headers(strict: Server) -> None:
    before = rejected(strict, "header_timeout")
    with closing(connect(strict)) as link:
        answered(dribble(link, GET, b"X-A: b\r\n"), 408, "header_timeout")
    with closing(connect(strict)) as link:
        answered(dribble(link, b"\r\n"), 408, "header_timeout")
    assert rejected(strict, "header_timeout") == before + 2


def test_many_dribblers_do_not_keep_others_out(strict: Server, nuclei: object) -> None:
    links = [connect(strict) for _ in range(200)]
    for link in links:
        link.sendall(GET)
    image_id = strict.upload(nuclei)  # type: ignore[arg-type]
    assert strict.click(image_id, 413, 190).status_code == 200
    for link in links:
        answered(until_closed(link), 408, "header_timeout")
        link.close()


def test_dribbling_the_headers_of_a_second_request(strict: Server) -> None:
    with closing(connect(strict)) as link:
        link.sendall(GET + b"\r\n")
        assert one_answer(link).startswith(b"HTTP/1.1 200")
        answered(dribble(link, b"G", b"E", b"T", b" /", b"a"), 408, "header_timeout")


def test_an_idle_connection_is_kept(strict: Server) -> None:
    with closing(connect(strict)) as link, closing(connect(strict)) as silent:
        link.sendall(GET + b"\r\n")
        assert one_answer(link).startswith(b"HTTP/1.1 200")
        assert until_closed(silent) == b""  # the header timeout has passed
        link.sendall(GET + b"\r\n")
        assert one_answer(link).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "pieces",
    [
        [GET + b"X-Long: " + b"a" * 40_000],
        [GET + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n"],
        [GET + b"X-A: b\r\n" * 5000 + b"\r\n"],
        [b"GET /" + b"a" * 40_000],
        [GET, *[b"X-A: " + b"b" * 8000 + b"\r\n"] * 5],
        [GET + b"\r\n" + GET + b"X-Long: " + b"a" * 400_000],
    ],
    ids=[
        "one header",
        "complete",
        "many headers",
        "request line",
        "piece by piece",
        "of a pipelined request",
    ],
)
def test_headers_over_the_limit(strict: Server, pieces: list[bytes]) -> None:
    before = rejected(strict, "header_size")
    with closing(connect(strict)) as link:
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                link.sendall(piece)
        seen = until_closed(link)
    if len(pieces) > 1 or b"\r\n\r\nGET" not in pieces[0]:  # else it may come while the first is answered
        answered(seen, 431, "header_size")
    assert rejected(strict, "header_size") == before + 1


def test_headers_under_the_limit(strict: Server) -> None:
    with closing(connect(strict)) as link:
        for _ in range(3):  # each request has its own room
            link.sendall(GET + b"X-Long: " + b"a" * 31_000 + b"\r\n\r\n")
            assert one_answer(link).startswith(b"HTTP/1.1 200")
        small = GET + b"X-Long: " + b"a" * 1000 + b"\r\n\r\n"
        link.sendall(small * 40)  # pipelined: more than the limit together, each far below it
        seen = b""
        while seen.count(b"HTTP/1.1 200") < 40:
            seen += (part := link.recv(65536))
            assert part, seen


def test_what_is_no_http(strict: Server) -> None:
    with closing(connect(strict)) as link:
        link.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answered(until_closed(link), 400, "bad_request")


# Bodies


@pytest.mark.parametrize(
    "start",
    [POST + b"Content-Length: 100000\r\n\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\n"],
    ids=["stated length", "chunked"],
)
@pytest.mark.parametrize("stops", [True, False], ids=["stops", "dribbles"])
def test_a_body_must_keep_coming(strict: Server, start: bytes, stops: bool) -> None:
    before = rejected(strict, "body_timeout")
    with closing(connect(strict)) as link:
        if stops:
            link.sendall(start)
            seen = until_closed(link)
        else:
            seen = dribble(link, start, b"1\r\na\r\n")
        answered(seen, 408, "too_slow")
    assert rejected(strict, "body_timeout") == before + 1


def test_a_form_and_json_must_keep_coming(strict: Server) -> None:
    form = POST.replace(b"image/png", b"multipart/form-data; boundary=x")
    json = b"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for start in (form, json):
        with closing(connect(strict)) as link:
            link.sendall(start + b"Content-Length: 1000\r\n\r\n--x\r\n")
            answered(until_closed(link), 408, "too_slow")


def test_a_slow_body_that_keeps_coming_is_taken(strict: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(10):
            time.sleep(PAUSE_S)
            yield bytes(20_000)

    answer = strict.client.post("/v1/images", content=chunks(), headers={"content-type": "image/png"})
    refused(answer, 415, "unsupported_format", "file")


def test_the_rest_of_a_body_that_is_answered_already(strict: Server) -> None:
    with closing(connect(strict)) as link:
        link.sendall(POST + b"Content-Length: 99999999999\r\n\r\n")
        assert b" 413 " in one_answer(link).partition(b"\r\n")[0]
        dribble(link, b"a")
    assert rejected(strict, "too_large") >= 1


def test_json_has_its_own_limit_wherever_it_is_sent(strict: Server) -> None:
    answer = strict.client.post(
        "/v1/images", content=bytes(40_000_000), headers={"content-type": "application/json"}
    )
    refused(answer, 413, "too_large", "body")


# Answers


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["kept alive", "to be closed"])
def test_a_client_that_does_not_read_its_answer(strict: Server, last: bytes) -> None:
    """More is asked for than all buffers on the way hold."""
    before = rejected(strict, "slow_reader")
    ask = b"GET /v1/models/starter/decoder.onnx HTTP/1.1\r\nHost: x\r\n"
    with closing(connect(strict, receive_buffer=4096)) as link:
        link.sendall((ask + b"\r\n") * 19 + ask + last + b"\r\n")
        wait_for(lambda: rejected(strict, "slow_reader") == before + 1)
        assert len(until_closed(link)) < 20_000_000


def test_a_client_that_reads_slowly_gets_its_answer(strict: Server) -> None:
    with closing(connect(strict, receive_buffer=4096)) as link:
        link.sendall(b"GET /v1/models/starter/decoder.onnx HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        seen = 0
        while part := link.recv(65536):
            seen += len(part)
            time.sleep(0.002)
    assert seen > 1_700_000


# Requests in flight


def test_no_more_requests_than_the_ceiling_at_once(public: Server) -> None:
    """Held open by bodies that keep coming; what is over the ceiling is refused at once, operators get in."""
    before = rejected(public, "in_flight")

    def hold() -> int:
        def chunks() -> Iterator[bytes]:
            while not release:
                yield bytes(20_000)
                time.sleep(PAUSE_S)

        return httpx.post(
            f"{public.url}/v1/images", content=chunks(), headers={"content-type": "image/png"}, timeout=HANG_S
        ).status_code

    release: list[bool] = []
    with ThreadPoolExecutor(20) as threads:
        held = [threads.submit(hold) for _ in range(4)]
        try:
            # Not by asking /v1: that might take the place of one that is to be held.
            wait_for(lambda: "segserve_requests_in_flight 5.0" in public.client.get("/metrics").text)
            over = list(threads.map(lambda _: public.client.get("/v1/models"), range(16)))
            for answer in over:
                refused(answer, 503, "too_busy")
                assert answer.headers["retry-after"] == "1"
            for path in ("/livez", "/readyz", "/metrics", "/"):
                assert public.client.get(path).status_code == 200, path
        finally:
            release.append(True)
        assert [answer.result() for answer in held] == [415] * 4
    assert public.client.get("/v1/models").status_code == 200
    assert rejected(public, "in_flight") >= before + 16


# Connections


def ask(link: socket.socket, path: str) -> bytes:
    link.sendall(GET.replace(b"/livez", path.encode()) + b"\r\n")
    return one_answer(link)


def test_no_more_connections_than_are_served(tmp_path: Path) -> None:
    """On surplus ones operators get their answers and everybody else a refusal; many more are closed at once."""
    server = Server(tmp_path, max_connections="3")
    server.wait_ready()  # over the first connection, which is kept
    held = [connect(server) for _ in range(2)]
    for link in held:
        assert ask(link, "/v1/models").startswith(b"HTTP/1.1 200")
    with closing(connect(server)) as over:
        assert ask(over, "/livez").startswith(b"HTTP/1.1 200")
        over.sendall(GET.replace(b"/livez", b"/v1/models") + b"\r\n")
        seen = until_closed(over)
        answered(seen, 503, "too_busy")
        assert b"retry-after: " in seen
    wait_for(lambda: rejected(server, "connections") == 1)
    assert ask(held[0], "/v1/models").startswith(b"HTTP/1.1 200"), "those that were first are served"
    silent = [connect(server) for _ in range(SPARE_CONNECTIONS)]
    with closing(connect(server)) as over:
        assert until_closed(over) == b""
    assert rejected(server, "connections") == 2
    for link in [*silent, *held]:
        link.close()
    wait_for(lambda: new_connection(server) == 200)
    assert server.stop() == 0


def new_connection(server: Server) -> int:
    return httpx.get(f"{server.url}/v1/models").status_code


# Browsers


def policy(answer: httpx.Response) -> dict[str, list[str]]:
    parts = answer.headers["content-security-policy"].split(";")
    return {words[0]: words[1:] for part in parts if (words := part.split())}


def test_every_answer_says_what_browsers_may_do_with_it(strict: Server) -> None:
    for path in ("/", "/docs", "/livez", "/v1/models", "/v1/images/none", "/nothing"):
        answer = strict.client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert policy(answer)["frame-ancestors"] == ["'none'"]
        assert policy(answer)["default-src"] == ["'none'"]


def test_the_page_may_run_its_own_script_and_no_other(strict: Server) -> None:
    answer = strict.client.get("/")
    for tag in ("script", "style"):
        [inline] = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = b64encode(sha256(inline.encode()).digest()).decode()
        assert policy(answer)[f"{tag}-src"] == [f"'sha256-{digest}'"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    markup = answer.text.partition("<body>")[2]
    assert not re.search(r'<[^>]*\s(style|on\w+)="', markup), "the policy forbids these"


def test_the_reference_may_load_what_it_names(strict: Server) -> None:
    answer = strict.client.get("/docs")
    script = policy(answer)["script-src"]
    assert "'unsafe-inline'" not in script
    for url in re.findall(r'<script src="([^"]+)"', answer.text):
        assert any(url.startswith(source) for source in script)
    [inline] = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    assert f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'" in script
    [style] = re.findall(r'rel="stylesheet" href="([^"]+)"', answer.text)
    assert any(style.startswith(source) for source in policy(answer)["style-src"])
    assert strict.client.get("/openapi.json").status_code == 200


def test_pages_of_named_origins_may_call(public: Server) -> None:
    ask = {"origin": "https://labels.example.org"}
    answer = public.client.get("/v1/models", headers=ask)
    assert answer.headers["access-control-allow-origin"] == ask["origin"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) == {"Server-Timing", "X-Request-ID", "Retry-After", "Segserve-Areas"}
    before = {
        **ask,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    assert public.client.options("/v1/segment", headers=before).status_code == 200
    missing = public.client.get("/v1/images/none", headers=ask)
    assert missing.headers["access-control-allow-origin"] == ask["origin"], "errors can be read too"


def test_pages_of_other_origins_may_not(public: Server) -> None:
    other = {"origin": "https://example.com"}
    assert "access-control-allow-origin" not in public.client.get("/v1/models", headers=other).headers
    before = {**other, "access-control-request-method": "POST"}
    assert public.client.options("/v1/segment", headers=before).status_code == 400


# Keys


def test_an_open_address_without_keys_is_warned_of(public: Server, strict: Server) -> None:
    ready = public.client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["checks"]["keys"] == "none: anyone who can reach this address can use the service"
    assert "anyone who can reach this address" in public.log.read_text()
    assert "keys" not in strict.client.get("/readyz").json()["checks"]
