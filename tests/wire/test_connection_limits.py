"""Too many clients at once: requests in flight and connections have limits, and operators still get in."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from segserve.wire.http.limits import SPARE_CONNECTIONS
from tests.serving import Server
from tests.wire.raw_http import (
    GET,
    HANG_S,
    PAUSE_S,
    assert_problem,
    connect,
    count_rejections,
    read_answer,
    read_until_closed,
    wait_for,
)
from tests.wire.responses import assert_refused


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that answers four requests at a time."""
    running = Server(tmp_path_factory.mktemp("crowded"), max_in_flight="4")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_requests_in_flight_are_limited(crowded: Server) -> None:
    """Four requests are held open by slow bodies. Further ones are refused at once, except those of operators."""
    before = count_rejections(crowded, "in_flight")

    def hold() -> int:
        def chunks() -> Iterator[bytes]:
            while not release:
                yield bytes(20_000)
                time.sleep(PAUSE_S)

        return httpx.post(
            f"{crowded.url}/v1/images",
            content=chunks(),
            headers={"content-type": "image/png"},
            timeout=HANG_S,
        ).status_code

    release: list[bool] = []
    with ThreadPoolExecutor(20) as threads:
        held = [threads.submit(hold) for _ in range(4)]
        try:
            # /metrics and not /v1, which might take the slot of a request that is to be held.
            wait_for(lambda: "segserve_requests_in_flight 5.0" in crowded.client.get("/metrics").text)
            over = list(threads.map(lambda _: crowded.client.get("/v1/models"), range(16)))
            for answer in over:
                assert_refused(answer, 503, "too_busy")
                assert answer.headers["retry-after"] == "1"
            for path in ("/livez", "/readyz", "/metrics", "/"):
                assert crowded.client.get(path).status_code == 200, path
        finally:
            release.append(True)
        assert [answer.result() for answer in held] == [415] * 4
    assert crowded.client.get("/v1/models").status_code == 200
    assert count_rejections(crowded, "in_flight") >= before + 16


def get(link: socket.socket, path: str) -> bytes:
    link.sendall(GET.replace(b"/livez", path.encode()) + b"\r\n")
    return read_answer(link)


def test_connections_are_limited(tmp_path: Path) -> None:
    """On surplus connections only operators are answered. Connections beyond them are closed at once."""
    server = Server(tmp_path, max_connections="3")
    server.wait_ready()  # on the first connection, which stays open
    held = [connect(server) for _ in range(2)]
    for link in held:
        assert get(link, "/v1/models").startswith(b"HTTP/1.1 200")
    with closing(connect(server)) as over:
        assert get(over, "/livez").startswith(b"HTTP/1.1 200")
        over.sendall(GET.replace(b"/livez", b"/v1/models") + b"\r\n")
        received = read_until_closed(over)
        assert_problem(received, 503, "too_busy")
        assert b"retry-after: " in received
    wait_for(lambda: count_rejections(server, "connections") == 1)
    assert get(held[0], "/v1/models").startswith(b"HTTP/1.1 200"), "earlier connections are still served"
    silent = [connect(server) for _ in range(SPARE_CONNECTIONS)]
    with closing(connect(server)) as over:
        assert read_until_closed(over) == b""
    assert count_rejections(server, "connections") == 2
    for link in [*silent, *held]:
        link.close()
    wait_for(lambda: get_status(server) == 200)
    assert server.stop() == 0


def get_status(server: Server) -> int:
    """The status of a request on a new connection."""
    return httpx.get(f"{server.url}/v1/models").status_code
