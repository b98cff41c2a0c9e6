"""Requests that break off or are malformed: no internal error, no traceback, one line in the log."""

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.serving import Server
from tests.wire.raw_http import connect, read_until_closed, wait_for

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
BROKEN = {
    "json": b"POST /v1/segment" + HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    "bytes": b"POST /v1/images" + HEAD + b"Content-Length: 100\r\n\r\nabc",
    "form": b"POST /v1/files"
    + HEAD
    + b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100\r\n\r\n--b\r\n",
    "chunk": b"POST /v1/images" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
}
BAD_CHUNKS = [b"zz\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nabc\r\n", b"3\r\nabcdef\r\n", b"-1\r\n"]
MALFORMED = [
    b"GET /livez HTTP/1.1\r\nA\r\n\r\n",
    b"\x16\x03\x01\x00",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /\xff\xfe" + HEAD + b"\r\n",
]


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("impatient"), header_timeout_s="1", body_timeout_s="5")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "internal error" not in log
    assert "write_eof" not in log


def count_status(server: Server, status: int) -> int:
    return server.log.read_text().count(f"status={status} ") + server.log.read_text().count(
        f"status={status}\n"
    )


@pytest.mark.parametrize("request_bytes", BROKEN.values(), ids=BROKEN)
def test_a_body_that_breaks_off_is_one_line_with_status_499(impatient: Server, request_bytes: bytes) -> None:
    before, lines = count_status(impatient, 499), len(impatient.log.read_text().splitlines())
    for _ in range(5):
        with closing(connect(impatient)) as link:
            link.sendall(request_bytes)
            time.sleep(0.05)
    wait_for(lambda: count_status(impatient, 499) == before + 5)
    assert len(impatient.log.read_text().splitlines()) == lines + 5


@pytest.mark.parametrize("chunk", BAD_CHUNKS)
def test_a_bad_chunk_is_no_internal_error(impatient: Server, chunk: bytes) -> None:
    with closing(connect(impatient)) as link:
        link.sendall(b"POST /v1/images" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
        answer = read_until_closed(link)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 499 ")), answer


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_requests_are_counted_and_take_one_line(impatient: Server, data: bytes) -> None:
    def rejections() -> float:
        return impatient.metric('segserve_rejections_total{reason="malformed"}')

    before, lines = rejections(), impatient.log.read_text().count("Invalid HTTP request")
    with closing(connect(impatient)) as link:
        link.sendall(data)
        time.sleep(1.2)  # longer than the timeout of the headers, which must not answer a second time
        assert read_until_closed(link).startswith(b"HTTP/1.1 400 ")
    assert rejections() == before + 1
    assert impatient.log.read_text().count("Invalid HTTP request") == lines + 1


def test_pipelined_requests_that_are_left_are_no_internal_error(impatient: Server, noise: bytes) -> None:
    """The first one is still being answered, and learns that nobody waits for it."""
    body = b'{"image_id": "%s", "prompts": [{"points": [[1, 2]]}]}' % impatient.upload(noise).encode()
    head = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    before = impatient.log.read_text().count("path=/v1/segment")
    with closing(connect(impatient)) as link:
        link.sendall(b"POST /v1/segment" + HEAD + head + body + b"GET /livez" + HEAD + b"\r\n")
    wait_for(lambda: impatient.log.read_text().count("path=/v1/segment") > before)
    assert "internal error" not in impatient.log.read_text()


def test_no_metric_counts_an_internal_error(impatient: Server) -> None:
    assert 'status="500"' not in impatient.client.get("/metrics").text
