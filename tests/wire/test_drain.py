"""A process that is told to stop answers until load balancers have left it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

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
