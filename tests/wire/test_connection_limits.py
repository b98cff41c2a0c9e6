"""Too many requests and connections at once: each kind has its limit, of which one client gets a share, and operators
still get in."""

import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from segserve.wire.http.connections import STALLED_S
from segserve.wire.http.limits import OPERATOR_CONNECTIONS, SPARE_CONNECTIONS
from tests.serving import Server
from tests.wire.raw_http import (
    GET,
    OTHER_CLIENT,
    PAUSE_S,
    POST,
    assert_problem,
    connect,
    count_rejections,
    read_answer,
    read_until_closed,
    wait_for,
)
from tests.wire.responses import assert_refused


@pytest.fixture(scope="module")
def crowded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes eight uploads at a time, four of each client, and 20 connections of each."""
    running = Server(
        tmp_path_factory.mktemp("crowded"), max_uploads="8", max_connections="40", operator_port="0"
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


UPLOAD = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def held_uploads(server: Server, client: str, count: int) -> Iterator[list[socket.socket]]:
    """Uploads of one client whose bodies never end, at a pace that is high enough."""
    links = [connect(server, client=client) for _ in range(count)]
    released = threading.Event()

    def send() -> None:
        while not released.wait(PAUSE_S):
            for link in links:
                with suppress(OSError):
                    link.sendall(b"2000\r\n" + bytes(0x2000) + b"\r\n")

    for link in links:
        link.sendall(UPLOAD)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield links
    finally:
        released.set()
        sender.join()
        for link in links:
            link.close()


def test_one_client_gets_its_share_of_uploads_and_leaves_the_rest(
    crowded: Server, nuclei: Path, noise: bytes
) -> None:
    image_id = crowded.upload(nuclei)
    with held_uploads(crowded, OTHER_CLIENT, 6) as links:
        # Two of the six are refused. The others wait, and nobody else notices.
        refused = [link for link in links if link in select.select(links, [], [], 1)[0]]
        wait_for(lambda: count_rejections(crowded, "client_uploads") == 2)
        for link in refused:
            assert b" 503 " in read_answer(link).partition(b"\r\n")[0]
        crowded.upload(noise)
        assert crowded.click(image_id, 413, 190).status_code == 200
        with closing(crowded.client_from(OTHER_CLIENT)) as client:
            over = client.post("/v1/images", content=noise, headers={"content-type": "image/png"})
            assert_refused(over, 503, "too_busy")
            assert over.headers["retry-after"] == "1"
            assert "one address" in over.text
            assert client.get("/v1/models").status_code == 200, "only uploads are full"
    wait_for(lambda: crowded.metric("segserve_requests_in_flight") == 1)


def test_all_clients_together_have_a_limit(crowded: Server, nuclei: Path, noise: bytes) -> None:
    before = count_rejections(crowded, "uploads")
    with held_uploads(crowded, OTHER_CLIENT, 4), held_uploads(crowded, "127.0.0.3", 4):
        wait_for(lambda: crowded.metric("segserve_requests_in_flight") == 9)
        over = crowded.client.post("/v1/images", content=noise, headers={"content-type": "image/png"})
        assert_refused(over, 503, "too_busy")
        assert "SEGSERVE_MAX_UPLOADS" in over.text
        for path in ("/v1/models", "/livez", "/readyz", "/metrics", "/"):
            assert crowded.client.get(path).status_code == 200, path
    assert count_rejections(crowded, "uploads") == before + 1


@pytest.fixture
def crowded(crowded_server: Server) -> Server:
    """The server, with no connections but the one of its own client."""
    wait_for(lambda: crowded_server.metric('segserve_connections{port="rest"}') == 1)
    return crowded_server


def get(link: socket.socket, path: str) -> bytes:
    link.sendall(GET.replace(b"/livez", path.encode()) + b"\r\n")
    return read_answer(link)


def close_all(links: Iterable[socket.socket]) -> None:
    for link in links:
        link.close()


def is_closed(link: socket.socket) -> bool:
    """Whether the server has closed the connection, on which nothing is expected."""
    return bool(select.select([link], [], [], 0)[0]) and read_until_closed(link) == b""


def test_the_oldest_idle_connection_gives_way_to_a_new_one(crowded: Server) -> None:
    before = crowded.metric('segserve_connections_shed_total{phase="idle"}')
    idle = [connect(crowded, client=OTHER_CLIENT) for _ in range(20)]
    for link in idle:
        assert get(link, "/v1/models").startswith(b"HTTP/1.1 200")
    with closing(connect(crowded, client=OTHER_CLIENT)) as new:
        assert get(new, "/v1/models").startswith(b"HTTP/1.1 200")
    assert [is_closed(link) for link in idle] == [True] + [False] * 19
    assert crowded.metric('segserve_connections_shed_total{phase="idle"}') == before + 1
    assert get(idle[1], "/v1/models").startswith(b"HTTP/1.1 200"), "the others are still served"
    close_all(idle)


def test_slow_headers_give_way_and_a_running_upload_does_not(crowded: Server) -> None:
    before = crowded.metric('segserve_connections_shed_total{phase="headers"}')
    with held_uploads(crowded, OTHER_CLIENT, 4) as uploads:
        slow = [connect(crowded, client=OTHER_CLIENT) for _ in range(16)]
        for link in slow:
            link.sendall(GET)
        with closing(connect(crowded, client=OTHER_CLIENT)) as new:
            assert get(new, "/v1/models").startswith(b"HTTP/1.1 200")
        assert [is_closed(link) for link in slow] == [True] + [False] * 15
        assert not any(is_closed(link) for link in uploads)
    assert crowded.metric('segserve_connections_shed_total{phase="headers"}') == before + 1
    close_all(slow)


def test_a_body_that_stalls_gives_way(crowded: Server) -> None:
    stalled = [connect(crowded, client=OTHER_CLIENT) for _ in range(20)]
    for link in stalled:
        link.sendall(POST.replace(b"/v1/images", b"/v1/segment") + b"Content-Length: 100\r\n\r\n")
    time.sleep(STALLED_S)

    def is_served() -> bool:
        with closing(connect(crowded, client=OTHER_CLIENT)) as new:
            return get(new, "/v1/models").startswith(b"HTTP/1.1 200")

    wait_for(is_served)  # the server may have got the bodies later than we sent them
    assert crowded.metric('segserve_connections_shed_total{phase="body"}') >= 1
    close_all(stalled)


def test_a_client_that_opens_and_closes_connections_keeps_nobody_out(crowded: Server, nuclei: Path) -> None:
    image_id = crowded.upload(nuclei)
    links: deque[socket.socket] = deque(maxlen=200)
    for _ in range(1000):
        if len(links) == links.maxlen:
            links.popleft().close()
        links.append(connect(crowded, client=OTHER_CLIENT))
    assert crowded.click(image_id, 413, 190).status_code == 200
    close_all(links)
    wait_for(lambda: crowded.metric('segserve_connections{port="rest"}') < 20)


def test_operators_get_in_on_their_port_while_all_connections_are_held(tmp_path: Path, noise: bytes) -> None:
    """Watchers hold all connections that are served and all surplus ones."""
    server = Server(
        tmp_path, max_connections="4", max_client_share="1", operator_port="0", job_workers="false"
    )
    operators = server.find_address(r"operators at (\S+)")
    server.wait_ready()
    job = submit_waiting_job(server, server.upload(noise))
    server.client.close()  # its connection is one of them
    watchers = [connect(server) for _ in range(4 + SPARE_CONNECTIONS)]
    for link in watchers[:4]:
        link.sendall(GET.replace(b"/livez", f"/v1/jobs/{job}/events".encode()) + b"\r\n")
    with httpx.Client(base_url=operators) as client:
        for path in ("/livez", "/readyz", "/metrics"):
            assert client.get(path).status_code == 200, path
        assert client.head("/livez").status_code == 200
        assert client.get("/livez", headers={"host": "anything"}).status_code == 200
        assert client.get("/v1/models").status_code == 404
        assert client.get("/docs").status_code == 404
        assert 'segserve_connections{port="operators"} 1.0' in client.get("/metrics").text
    close_all(watchers)
    assert server.stop() == 0


def test_one_client_cannot_hold_all_connections_of_operators(crowded: Server) -> None:
    url = crowded.find_address(r"operators at (\S+)")
    held = [connect(crowded, client=OTHER_CLIENT, url=url) for _ in range(2 * OPERATOR_CONNECTIONS)]
    for link in held:
        link.sendall(GET)
    assert httpx.get(f"{url}/livez").status_code == 200
    close_all(held)


def test_surplus_connections_are_answered_only_for_operators(tmp_path: Path, noise: bytes) -> None:
    """On surplus connections only operators are answered. Connections beyond them are closed at once."""
    server = Server(tmp_path, max_connections="3", max_client_share="1", job_workers="false")
    server.wait_ready()
    job = submit_waiting_job(
        server, server.upload(noise)
    )  # on the first connection, which stays open and idle
    held = [connect(server) for _ in range(3)]
    for link in held:
        link.sendall(GET.replace(b"/livez", f"/v1/jobs/{job}/events".encode()) + b"\r\n")
        assert link.recv(20).startswith(b"HTTP/1.1 200")
    with closing(connect(server)) as over:
        assert get(over, "/livez").startswith(b"HTTP/1.1 200")
        over.sendall(GET.replace(b"/livez", b"/v1/models") + b"\r\n")
        received = read_until_closed(over)
        assert_problem(received, 503, "too_busy")
        assert b"retry-after: " in received
    close_all(held)
    wait_for(lambda: get_status(server) == 200)
    assert count_rejections(server, "connections") >= 1
    assert server.stop() == 0


def test_large_bodies_that_never_end_take_one_clients_share_of_memory(tmp_path: Path, nuclei: Path) -> None:
    server = Server(tmp_path, body_memory_mb="16", max_request_mb="8")
    server.wait_ready()
    image_id = server.upload(nuclei)
    head = POST.replace(b"/v1/images", b"/v1/segment").replace(b"image/png", b"application/json")
    with ExitStack() as stack:
        links = [stack.enter_context(closing(connect(server, client=OTHER_CLIENT))) for _ in range(3)]
        for link in links:
            with suppress(OSError):
                link.sendall(head + b"Content-Length: 7000000\r\n\r\n" + b" " * 6_000_000)
        wait_for(lambda: count_rejections(server, "client_body_memory") == 2)
        prompt = {"points": [[413, 190]], "labels": [1]}
        large = {"image_id": image_id, "prompts": [prompt]}
        padded = json.dumps(large).encode() + b" " * 6_000_000
        headers = {"content-type": "application/json"}
        answer = server.client.post("/v1/segment", content=padded, headers=headers)
        assert answer.status_code == 200, answer.text
        assert server.client.post("/v1/segment", content=padded, headers=headers).status_code == 200
    assert server.stop() == 0


def test_head_of_a_stream_of_events_ends(tmp_path: Path, noise: bytes) -> None:
    server = Server(tmp_path, job_workers="false")
    server.wait_ready()
    job = submit_waiting_job(server, server.upload(noise))
    answer = server.client.head(f"/v1/jobs/{job}/events")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    wait_for(lambda: server.metric("segserve_requests_in_flight") == 1)
    assert server.client.head("/v1/models").status_code == 200
    assert server.stop() == 0


def test_only_a_trusted_proxy_names_the_client(tmp_path: Path, noise: bytes) -> None:
    """Each client behind it has a share of its own; others cannot make up addresses."""
    server = Server(tmp_path, max_uploads="2", trusted_proxies='["127.0.0.9/32"]')
    server.wait_ready()
    with held_uploads(server, OTHER_CLIENT, 1):
        wait_for(lambda: server.metric("segserve_requests_in_flight") == 2)

        def upload(peer: str, forwarded: str) -> int:
            with closing(server.client_from(peer)) as client:
                headers = {"content-type": "image/png", "x-forwarded-for": forwarded}
                return client.post("/v1/images", content=noise, headers=headers).status_code

        assert upload(OTHER_CLIENT, "192.0.2.1") == 503, "not a proxy"
        assert upload("127.0.0.9", OTHER_CLIENT) == 503
        assert upload("127.0.0.9", f"192.0.2.1, {OTHER_CLIENT}") == 503, (
            "what stands before is the client's claim"
        )
        assert upload("127.0.0.9", "192.0.2.1") == 201
    assert server.stop() == 0


def submit_waiting_job(server: Server, image_id: str) -> str:
    """The id of a job that does not end: no worker runs it."""
    body = {"kind": "batch", "input": {"image_ids": [image_id]}, "params": {"operation": "embed"}}
    answer = server.client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def get_status(server: Server) -> int:
    """The status of a request on a new connection."""
    return httpx.get(f"{server.url}/v1/models").status_code
