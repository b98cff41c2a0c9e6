"""Beyond a rate: 429 with Retry-After and RateLimit headers, RESOURCE_EXHAUSTED with RetryInfo, on every replica."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from segserve.v1 import segmentation_pb2, segmentation_pb2_grpc
from segserve.wire.grpc.errors import DETAILS_KEY
from tests.conftest import ExternalRedis
from tests.serving import Server

CLICKS = 6  # a day, for each address


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    redis = ExternalRedis(tmp_path_factory.mktemp("r"))
    folder = tmp_path_factory.mktemp("rates")
    options = {"redis_url": redis.url, "rate_clicks": f"{CLICKS}/day", "grpc_port": "0"}
    running = [Server(folder, **options) for _ in range(2)]
    for server in running:
        server.wait_ready()
    yield running
    for server in running:
        assert server.stop() == 0, server.log.read_text()
    redis.kill()


def test_replicas_refuse_together_and_say_when_to_come_again(replicas: list[Server], nuclei: Path) -> None:
    image_id = replicas[0].upload(nuclei)
    body = {"image_id": image_id, "prompts": [{"points": [[413, 190]]}]}
    statuses = []
    for number in range(CLICKS + 2):
        with closing(replicas[number % 2].client_from("127.0.0.2")) as client:
            answer = client.post("/v1/segment", json=body)
        statuses.append(answer.status_code)
        assert answer.headers["ratelimit-policy"] == f'"clicks-86400s";q={CLICKS};w=86400'
        left = answer.headers["ratelimit"]
        assert left.startswith(f'"clicks-86400s";r={max(0, CLICKS - 1 - number)};t=')
    assert statuses == [200] * CLICKS + [429, 429]
    assert answer.json()["type"] == "urn:segserve:problem:rate_limited"
    assert "SEGSERVE_RATE_CLICKS" in answer.json()["remedy"]
    assert int(answer.headers["retry-after"]) > 0
    with closing(replicas[0].client_from("127.0.0.2")) as client:
        models = client.get("/v1/models")
        assert models.status_code == 200, "other requests have no rate here"
        assert "ratelimit" not in models.headers
        frontend = client.post("/v2/models/starter/infer", json={"inputs": []})
        assert frontend.status_code != 429, "and what is no click does not count as one"
    with closing(replicas[0].client_from("127.0.0.3")) as client:
        assert client.post("/v1/segment", json=body).status_code == 200, "another address"


def test_grpc_says_the_same(replicas: list[Server], nuclei: Path) -> None:
    image_id = replicas[0].upload(nuclei)
    prompt = segmentation_pb2.Prompt(points=[segmentation_pb2.Point(x=413, y=190)])
    request = segmentation_pb2.SegmentRequest(image_id=image_id, prompts=[prompt])
    codes: list[grpc.StatusCode] = []
    for number in range(CLICKS + 1):
        with grpc.insecure_channel(replicas[number % 2].grpc_address()) as channel:
            try:
                segmentation_pb2_grpc.SegmentationServiceStub(channel).Segment(request, timeout=60)
                codes.append(grpc.StatusCode.OK)
            except grpc.RpcError as refused:
                codes.append(refused.code())
                details = dict(refused.trailing_metadata())[DETAILS_KEY]
    assert codes == [grpc.StatusCode.OK] * CLICKS + [grpc.StatusCode.RESOURCE_EXHAUSTED]
    status = status_pb2.Status.FromString(details)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "RATE_LIMITED"
    assert status.details[1].Unpack(retry)
    assert retry.retry_delay.seconds > 0
