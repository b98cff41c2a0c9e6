"""A process that is told to stop answers until load balancers have left it."""

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segserve.wire.server import QUIET_TICKS
from segserve.wire.server import Server as RunningServer
from tests.conftest import ExternalRedis
from tests.serving import Encoder, Server

STATES = health_pb2.HealthCheckResponse
LONG_S = "600"  # nobody waits for the end of it


@pytest.fixture(scope="module")
def draining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    redis = ExternalRedis(tmp_path_factory.mktemp("r"))
    server = Server(
        tmp_path_factory.mktemp("draining"),
        redis_url=redis.url,
        grpc_port="0",
        operator_port="0",
        drain_s=LONG_S,
    )
    server.wait_ready()
    server.process.send_signal(signal.SIGTERM)
    yield server
    server.client.close()
    server.process.send_signal(signal.SIGINT)
    server.process.wait(timeout=60)  # a second signal ends it at once
    redis.kill()


@pytest.mark.parametrize("port", ["rest", "operators"])
def test_it_is_not_ready_any_more_and_says_why(draining: Server, port: str) -> None:
    url = draining.url if port == "rest" else draining.find_address(r"operators at (http://\S+)")
    answer = draining.client.get(f"{url}/readyz")
    while answer.status_code == 200:  # the signal is on its way
        answer = draining.client.get(f"{url}/readyz")
    assert answer.json()["status"] == "unavailable"
    assert "told to stop" in answer.json()["checks"]["process"]
    assert draining.client.get(f"{url}/livez").status_code == 200


def test_it_still_answers_and_closes_connections(draining: Server, nuclei: Path) -> None:
    while draining.client.get("/readyz").status_code == 200:
        pass
    image_id = draining.upload(nuclei)
    answer = draining.click(image_id, 413, 190)
    assert answer.status_code == 200, answer.text
    assert answer.headers["connection"] == "close"


def test_health_of_grpc_says_so_too(draining: Server) -> None:
    with grpc.insecure_channel(draining.grpc_address()) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert (
            next(answer.status for answer in watch if answer.status != STATES.SERVING) == STATES.NOT_SERVING
        )


def test_it_ends_after_the_time(tmp_path: Path, redis: ExternalRedis) -> None:
    encoder = Encoder(tmp_path, redis_url=redis.url, drain_s="0.5")
    assert encoder.stop() == 0
    assert "draining: requests are answered for 0.5 s more" in encoder.log.read_text()


def test_it_waits_until_no_request_has_come_for_a_while() -> None:
    """A balancer that is slow to notice still sends some when the time is over."""
    service = SimpleNamespace(is_draining=True, request_limits=SimpleNamespace(last_request_at=1.0))
    server: Any = SimpleNamespace(service=service, _quiet_ticks=0, _last_request_at=0.0)
    for number in range(3):
        service.request_limits.last_request_at += 1
        assert [RunningServer._is_quiet(server) for _ in range(QUIET_TICKS)] == [False] * QUIET_TICKS, number
    assert RunningServer._is_quiet(server)


def test_what_has_begun_to_arrive_is_answered_at_the_end(tmp_path: Path, redis: ExternalRedis) -> None:
    server = Server(tmp_path, redis_url=redis.url)
    address = server.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((address[0], int(address[1])), timeout=60)) as connection:
        connection.sendall(f"GET /livez HTTP/1.1\r\nHost: {':'.join(address)}\r\n".encode())
        server.client.close()
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        while "stopping:" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)  # it has looked
        connection.sendall(b"\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert server.process.wait(timeout=60) == 0
    assert "internal error" not in server.log.read_text()
