"""Clients that send too much or too slowly, or do not read: headers, bodies and answers have limits of size and time.

A test waits for what the server does, never for a time of its own.
"""

import re
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.serving import Server
from tests.wire.raw_http import (
    GET,
    PAUSE_S,
    POST,
    assert_problem,
    connect,
    count_rejections,
    read_answer,
    read_until_closed,
    send_slowly,
    wait_for,
)
from tests.wire.responses import assert_refused


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with timeouts of one second."""
    running = Server(tmp_path_factory.mktemp("impatient"), header_timeout_s="1", body_timeout_s="1")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(autouse=True)
def still_serving(impatient: Server, nuclei: Path) -> Iterator[None]:
    """After each test a click works."""
    yield
    assert impatient.click(impatient.upload(nuclei), 413, 190).status_code == 200


# Headers


def test_a_silent_client_is_disconnected(impatient: Server) -> None:
    with closing(connect(impatient)) as link:
        assert read_until_closed(link) == b""


def test_slow_headers_are_refused(impatient: Server) -> None:
    before = count_rejections(impatient, "header_timeout")
    with closing(connect(impatient)) as link:
        assert_problem(send_slowly(link, GET, b"X-A: b\r\n"), 408, "header_timeout")
    with closing(connect(impatient)) as link:
        assert_problem(send_slowly(link, b"\r\n"), 408, "header_timeout")
    assert count_rejections(impatient, "header_timeout") == before + 2


def test_many_slow_clients_do_not_block_others(impatient: Server, nuclei: Path) -> None:
    links = [connect(impatient) for _ in range(200)]
    for link in links:
        link.sendall(GET)
    image_id = impatient.upload(nuclei)
    assert impatient.click(image_id, 413, 190).status_code == 200
    for link in links:
        assert_problem(read_until_closed(link), 408, "header_timeout")
        link.close()


def test_slow_headers_of_a_second_request_are_refused(impatient: Server) -> None:
    with closing(connect(impatient)) as link:
        link.sendall(GET + b"\r\n")
        assert read_answer(link).startswith(b"HTTP/1.1 200")
        assert_problem(send_slowly(link, b"G", b"E", b"T", b" /", b"a"), 408, "header_timeout")


def test_an_idle_connection_is_kept(impatient: Server) -> None:
    with closing(connect(impatient)) as link, closing(connect(impatient)) as silent:
        link.sendall(GET + b"\r\n")
        assert read_answer(link).startswith(b"HTTP/1.1 200")
        assert read_until_closed(silent) == b""  # the header timeout has passed
        link.sendall(GET + b"\r\n")
        assert read_answer(link).startswith(b"HTTP/1.1 200")


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
def test_headers_over_the_limit_are_refused(impatient: Server, pieces: list[bytes]) -> None:
    before = count_rejections(impatient, "header_size")
    with closing(connect(impatient)) as link:
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                link.sendall(piece)
        received = read_until_closed(link)
    if (
        len(pieces) > 1 or b"\r\n\r\nGET" not in pieces[0]
    ):  # otherwise the refusal may come while the first is answered
        assert_problem(received, 431, "header_size")
    assert count_rejections(impatient, "header_size") == before + 1


def test_headers_under_the_limit_are_accepted(impatient: Server) -> None:
    with closing(connect(impatient)) as link:
        for _ in range(3):  # each request may use the whole limit
            link.sendall(GET + b"X-Long: " + b"a" * 31_000 + b"\r\n\r\n")
            assert read_answer(link).startswith(b"HTTP/1.1 200")
        small = GET + b"X-Long: " + b"a" * 2400 + b"\r\n\r\n"
        link.sendall(small * 15)  # pipelined: together above the limit, each far below it
        received = b""
        while received.count(b"HTTP/1.1 200") < 15:
            received += (part := link.recv(65536))
            assert part, received


def test_pipelined_requests_are_answered_one_after_the_other(impatient: Server) -> None:
    before = count_rejections(impatient, "pipelined")
    empty = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
    requests = ((GET + b"\r\n", b" 200 "), (empty, b" 415 "))
    with closing(connect(impatient)) as link:
        link.sendall(b"".join(request for request, _ in requests) * 50)
        received = b""
        while received.count(b"HTTP/1.1 ") < 100:
            received += (part := link.recv(65536))
            assert part, received
    statuses = re.findall(rb"HTTP/1.1( \d+ )", received)
    assert statuses == [status for _, status in requests] * 50
    assert count_rejections(impatient, "pipelined") == before


def test_too_many_pipelined_chunked_requests_close_the_connection(impatient: Server) -> None:
    """Where one ends is known only once it is parsed."""
    before = count_rejections(impatient, "pipelined")
    with closing(connect(impatient)) as link:
        with suppress(BrokenPipeError, ConnectionResetError):
            link.sendall((POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n") * 5000)
        read_until_closed(link)
    assert count_rejections(impatient, "pipelined") == before + 1


def test_ends_of_headers_without_headers_are_not_parsed_one_by_one(impatient: Server) -> None:
    with closing(connect(impatient)) as link:
        with suppress(BrokenPipeError, ConnectionResetError):
            link.sendall(b"\r\n\r\n" * 100_000)
        assert_problem(read_until_closed(link), 431, "header_size")


def test_bytes_that_are_not_http_are_refused(impatient: Server) -> None:
    with closing(connect(impatient)) as link:
        link.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert_problem(read_until_closed(link), 400, "bad_request")


# Bodies


@pytest.mark.parametrize(
    "start",
    [POST + b"Content-Length: 100000\r\n\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\n"],
    ids=["stated length", "chunked"],
)
@pytest.mark.parametrize("stops", [True, False], ids=["stops", "slow"])
def test_a_body_that_stalls_is_refused(impatient: Server, start: bytes, stops: bool) -> None:
    before = count_rejections(impatient, "body_timeout")
    with closing(connect(impatient)) as link:
        if stops:
            link.sendall(start)
            received = read_until_closed(link)
        else:
            received = send_slowly(link, start, b"1\r\na\r\n")
        assert_problem(received, 408, "too_slow")
    assert count_rejections(impatient, "body_timeout") == before + 1


def test_a_form_and_json_that_stall_are_refused(impatient: Server) -> None:
    form = POST.replace(b"image/png", b"multipart/form-data; boundary=x")
    json = b"POST /v1/segment HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    for start in (form, json):
        with closing(connect(impatient)) as link:
            link.sendall(start + b"Content-Length: 1000\r\n\r\n--x\r\n")
            assert_problem(read_until_closed(link), 408, "too_slow")


def test_a_slow_body_above_the_minimum_pace_is_accepted(impatient: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(10):
            time.sleep(PAUSE_S)
            yield bytes(20_000)

    answer = impatient.client.post("/v1/images", content=chunks(), headers={"content-type": "image/png"})
    assert_refused(answer, 415, "unsupported_format", "file")


def test_the_rest_of_a_refused_body_is_not_read_for_ever(impatient: Server) -> None:
    with closing(connect(impatient)) as link:
        link.sendall(POST + b"Content-Length: 99999999999\r\n\r\n")
        assert b" 413 " in read_answer(link).partition(b"\r\n")[0]
        send_slowly(link, b"a")
    assert count_rejections(impatient, "too_large") >= 1


def test_json_has_its_own_size_limit_on_every_route(impatient: Server) -> None:
    answer = impatient.client.post(
        "/v1/images", content=bytes(40_000_000), headers={"content-type": "application/json"}
    )
    assert_refused(answer, 413, "too_large", "body")


# Answers


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["kept alive", "to be closed"])
def test_a_client_that_does_not_read_its_answer_is_disconnected(impatient: Server, last: bytes) -> None:
    """The answers are larger than all buffers on the way."""
    before = count_rejections(impatient, "slow_reader")
    request = b"GET /v1/models/starter/decoder.onnx HTTP/1.1\r\nHost: localhost\r\n"
    with closing(connect(impatient, receive_buffer=4096)) as link:
        link.sendall((request + b"\r\n") * 15 + request + last + b"\r\n")
        wait_for(lambda: count_rejections(impatient, "slow_reader") == before + 1)
        assert len(read_until_closed(link)) < 20_000_000


def test_a_client_that_reads_slowly_gets_its_answer(impatient: Server) -> None:
    with closing(connect(impatient, receive_buffer=4096)) as link:
        link.sendall(
            b"GET /v1/models/starter/decoder.onnx HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        received = 0
        while part := link.recv(65536):
            received += len(part)
            time.sleep(0.002)
    assert received > 1_700_000
