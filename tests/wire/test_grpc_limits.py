"""gRPC clients that hold calls and connections: each has its share, and none of them holds a call for ever."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segserve.v1 import segmentation_pb2 as pb
from segserve.v1 import segmentation_pb2_grpc
from segserve.wire.grpc.connections import CHECK_INTERVAL_S
from segserve.wire.http.limits import SPARE_CONNECTIONS
from tests.serving import Server
from tests.wire.raw_http import OTHER_CLIENT, count_rejections, wait_for
from tests.wire.raw_http2 import DATA, HEADERS, RawHttp2

SEGMENT = "/segserve.v1.SegmentationService/Segment"
UPLOAD = "/segserve.v1.SegmentationService/UploadImage"
EMBEDDING = "/segserve.v1.SegmentationService/GetEmbedding"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes eight calls of each kind at a time, four of each client, and waits a second for messages."""
    running = Server(
        tmp_path_factory.mktemp("strict"),
        grpc_port="0",
        max_uploads="8",
        max_watchers="8",
        max_clicks="8",
        max_in_flight="8",
        body_timeout_s="1",
        max_request_mb="1",
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, but it waits for messages for as long as a test runs."""
    running = Server(
        tmp_path_factory.mktemp("patient"),
        grpc_port="0",
        max_uploads="8",
        max_watchers="8",
        max_clicks="8",
        max_in_flight="8",
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def target_of(server: Server) -> str:
    return server.find_address(r"gRPC at (\S+)")


@contextmanager
def channel_of(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(target_of(server)) as channel:
        yield channel


def click(server: Server, image_id: str) -> pb.SegmentResponse:
    prompts = [pb.Prompt(points=[pb.Point(x=413, y=190)])]
    with channel_of(server) as channel:
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        return stub.Segment(pb.SegmentRequest(image_id=image_id, prompts=prompts), timeout=60)


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (UPLOAD, "client_uploads"),
        (SEGMENT, "client_clicks"),
        (WATCH, "client_watchers"),
        (EMBEDDING, "client_in_flight"),
        (CHECK, "client_in_flight"),
    ],
)
def test_calls_that_send_nothing_take_one_clients_share(
    patient: Server, nuclei: Path, method: str, reason: str
) -> None:
    """Of each kind, whether the method takes one message or many."""
    image_id = patient.upload(nuclei)
    before = count_rejections(patient, reason)
    with RawHttp2(target_of(patient), client=OTHER_CLIENT) as raw:
        streams = [raw.open_call(method) for _ in range(6)]
        wait_for(lambda: count_rejections(patient, reason) == before + 2)
        assert len(click(patient, image_id).results) == 1
        with channel_of(patient) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
            assert check.status == health_pb2.HealthCheckResponse.SERVING
        for stream in streams:
            raw.reset(stream)
    wait_for(lambda: patient.metric("segserve_requests_in_flight") == 1)


def test_rest_and_grpc_share_what_a_client_may_have(patient: Server, noise: bytes) -> None:
    with RawHttp2(target_of(patient), client=OTHER_CLIENT) as raw:
        for _ in range(4):
            raw.open_call(UPLOAD)
        wait_for(lambda: patient.metric("segserve_requests_in_flight") == 5)
        with closing(patient.client_from(OTHER_CLIENT)) as client:
            answer = client.post("/v1/images", content=noise, headers={"content-type": "image/png"})
        assert answer.status_code == 503
        patient.upload(noise)
    wait_for(lambda: patient.metric("segserve_requests_in_flight") == 1)


@pytest.mark.parametrize("method", [UPLOAD, SEGMENT, CHECK])
def test_a_call_that_sends_nothing_ends(strict: Server, method: str) -> None:
    with RawHttp2(target_of(strict)) as raw:
        stream = raw.open_call(method)
        trailers = raw.read_until(HEADERS, stream=stream)
        assert trailers is not None
    wait_for(lambda: strict.metric("segserve_requests_in_flight") == 1)


def test_an_upload_that_stops_ends(strict: Server) -> None:
    stop = threading.Event()

    def chunks() -> Iterator[pb.UploadImageRequest]:
        yield pb.UploadImageRequest(chunk=bytes(1000))
        stop.wait()

    with channel_of(strict) as channel:
        stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.UploadImage(chunks(), timeout=60)
        stop.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "too slowly" in caught.value.details()


def test_an_answer_that_is_not_read_ends_its_call(strict: Server, nuclei: Path) -> None:
    """An embedding is larger than what gRPC and the kernel take of an answer that nobody reads."""
    image_id = strict.upload(nuclei)
    assert strict.click(image_id, 413, 190).status_code == 200
    before = count_rejections(strict, "slow_reader")
    with RawHttp2(target_of(strict), window=0) as raw:
        stream = raw.open_call(EMBEDDING)
        raw.send(stream, pb.GetEmbeddingRequest(image_id=image_id).SerializeToString())
        wait_for(lambda: count_rejections(strict, "slow_reader") == before + 1)
        assert raw.read_until(DATA, stream=stream) is None, "the connection is closed"
    wait_for(lambda: strict.metric("segserve_requests_in_flight") == 1)
    assert len(click(strict, image_id).results) == 1


def test_looking_for_connections_leaves_no_file_open(strict: Server) -> None:
    """It is done four times a second, and copies every socket."""
    before = strict.metric("process_open_fds")
    time.sleep(8 * CHECK_INTERVAL_S)
    assert strict.metric("process_open_fds") < before + 20


def test_one_client_keeps_its_share_of_connections(tmp_path: Path) -> None:
    """More than gRPC accepts in all. The idle ones end, and those with calls stay."""
    server = Server(tmp_path, grpc_port="0", max_connections="40")
    server.wait_ready()
    with ExitStack() as stack:
        busy = [stack.enter_context(RawHttp2(target_of(server), client=OTHER_CLIENT)) for _ in range(10)]
        for raw in busy:
            raw.open_call(WATCH)
        wait_for(lambda: server.metric("segserve_requests_in_flight") == 11)
        for _ in range(SPARE_CONNECTIONS + 40):
            with suppress(ConnectionResetError, BrokenPipeError):
                stack.enter_context(RawHttp2(target_of(server), client=OTHER_CLIENT))
        wait_for(lambda: server.metric('segserve_connections{port="grpc"}') == 20)
        assert server.metric('segserve_connections_shed_total{phase="idle"}') > 0
        assert server.metric('segserve_connections_shed_total{phase="busy"}') == 0
        assert server.metric("segserve_requests_in_flight") == 11
        with channel_of(server) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True
            )
            assert check.status == health_pb2.HealthCheckResponse.SERVING
    wait_for(lambda: server.metric('segserve_connections{port="grpc"}') == 0)
    assert server.stop() == 0


def test_calls_that_are_opened_and_reset_leave_nothing_behind(patient: Server, nuclei: Path) -> None:
    """Rapid reset, CVE-2023-44487."""
    image_id = patient.upload(nuclei)
    with ExitStack() as stack:
        for _ in range(4):
            raw = stack.enter_context(RawHttp2(target_of(patient), client=OTHER_CLIENT))
            with suppress(BrokenPipeError, ConnectionResetError):  # gRPC itself may end such a connection
                for _ in range(500):
                    raw.reset(raw.open_call(SEGMENT))
        assert len(click(patient, image_id).results) == 1
    wait_for(lambda: patient.metric("segserve_requests_in_flight") == 1)
    assert len(click(patient, image_id).results) == 1


def test_messages_that_were_refused_leave_nothing_in_memory(tmp_path: Path) -> None:
    """Each would stay until the garbage collector comes by, which counts objects and not their size."""
    server = Server(tmp_path, grpc_port="0", job_workers="false")
    server.wait_ready()

    def send(count: int) -> None:
        message = pb.GetImageRequest(image_id="a" * 30_000_000)
        with grpc.insecure_channel(target_of(server), [("grpc.max_send_message_length", -1)]) as channel:
            stub: Any = segmentation_pb2_grpc.SegmentationServiceStub(channel)
            for call in [stub.GetImage.future(message, timeout=60) for _ in range(count)]:
                assert call.code() is grpc.StatusCode.INVALID_ARGUMENT

    send(3)
    before = server.metric("process_resident_memory_bytes")
    send(12)
    wait_for(lambda: server.metric("process_resident_memory_bytes") < before + 150_000_000)
    assert server.stop() == 0
