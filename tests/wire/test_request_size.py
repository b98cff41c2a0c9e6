"""Requests with too many values, keys, levels, points or faults: refused at once, while everybody else is served."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from segserve.v1 import jobs_pb2, jobs_pb2_grpc, segmentation_pb2, segmentation_pb2_grpc
from segserve.wire.http.problems import MAX_FAULT_CHARACTERS, MAX_LISTED_FAULTS
from segserve.wire.schemas.common import MAX_BODY_VALUES
from segserve.wire.schemas.prompts import MAX_IMAGE_POINTS, MAX_POINTS, MAX_PROMPTS
from segserve.wire.schemas.segment import MAX_SEGMENT_VALUES
from tests.serving import Server
from tests.wire.grpc_calls import read_refusal
from tests.wire.raw_http import connect, read_until_closed
from tests.wire.responses import assert_refused

JSON = {"content-type": "application/json"}
SEGMENT = "/segserve.v1.SegmentationService/Segment"
MAX_WAIT_S = 5.0  # for /livez on a busy machine; requests of this file stopped it for 17 to 41 s


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("s"), grpc_port="0")
    server.wait_ready()
    yield server
    assert server.stop() == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def image_id(running: Server, nuclei: Path) -> str:
    return running.upload(nuclei)


@pytest.fixture(scope="module")
def channel(running: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(running.grpc_address(), [("grpc.max_send_message_length", -1)]) as opened:
        yield opened


def post(running: Server, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return running.client.post(path, content=content, headers=JSON)


def unknown_keys(count: int, **fields: Any) -> bytes:
    return json.dumps({**fields, **{f"{i:x}": 1 for i in range(count)}}).encode()


def send_raw(
    channel: grpc.Channel, data: bytes, method: str = SEGMENT
) -> tuple[grpc.StatusCode, dict[str, Any]]:
    return read_refusal(channel.unary_unary(method), data)


# Media types


@pytest.mark.parametrize(
    "kinds",
    [
        [b"application/json", b"application/octet-stream"],
        [b"application/octet-stream", b"application/json"],
        [b"application/json", b"application/json; charset=utf-8"],
        [b"image/png", b""],
    ],
)
def test_two_content_types_are_refused(running: Server, kinds: list[bytes]) -> None:
    lines = b"".join(b"Content-Type: " + kind + b"\r\n" for kind in kinds)
    link = connect(running)
    link.sendall(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + lines)
    link.sendall(b"Content-Length: 2\r\n\r\n{}")
    answer = read_until_closed(link)
    link.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"field":"content-type"' in answer


@pytest.mark.parametrize("prefix", [b"", b" ", b"\t", b"\xa0", b"\x0c", b"\x85", b"\xe2\x80\x83"])
def test_no_spelling_of_json_goes_round_its_limit(running: Server, prefix: bytes) -> None:
    """32 MB of JSON are the limit, 2048 MB of an image: whoever is read as JSON has JSON's limit."""
    link = connect(running)
    link.sendall(b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n")
    link.sendall(b"Content-Type: " + prefix + b"application/json\r\nContent-Length: 100000000\r\n\r\n")
    answer = link.recv(65536)
    link.close()
    status = int(answer.split()[1])
    assert status == (413 if prefix.strip(b" \t") == b"" else 415) or (status == 400 and prefix == b"\x0c")


# Values, keys, levels


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/segment", MAX_SEGMENT_VALUES),
        ("/v1/semantic", MAX_BODY_VALUES),
        ("/v1/automatic", MAX_BODY_VALUES),
    ],
)
def test_more_values_than_a_request_needs_are_refused(running: Server, path: str, limit: int) -> None:
    problem = assert_refused(post(running, path, unknown_keys(limit)), 413, "too_large", "body")
    assert str(limit) in problem["remedy"]


def test_a_million_unknown_keys_are_refused(running: Server) -> None:
    for path in ("/v1/segment", "/v1/images"):
        assert_refused(post(running, path, unknown_keys(1_000_000)), 413, "too_large", "body")


def test_ten_unknown_keys_are_listed(running: Server) -> None:
    problem = assert_refused(post(running, "/v1/segment", unknown_keys(900)), 422, "bad_input")
    assert len(problem["errors"]) == MAX_LISTED_FAULTS


def test_very_many_faults_are_counted_and_not_listed(running: Server) -> None:
    answer = post(running, "/v1/segment", unknown_keys(20_000, image_id="a", prompts=[{"box": [1, 1, 2, 2]}]))
    assert answer.status_code == 422
    assert "20000 faults" in answer.json()["detail"]
    job = {"kind": "batch", "input": {"image_ids": ["a"]}, "params": {"operation": "embed"}}
    answer = post(running, "/v1/jobs", unknown_keys(1010, **job))
    assert answer.status_code == 422
    assert "1010 faults" in answer.json()["detail"]
    assert_refused(post(running, "/v1/jobs", unknown_keys(100_000, **job)), 413, "too_large", "body")


def test_a_long_key_is_not_repeated(running: Server) -> None:
    answer = post(running, "/v1/segment", {"a" * 1_000_000: 1})
    assert answer.status_code == 422
    assert len(answer.content) < 20 * MAX_FAULT_CHARACTERS
    answer = post(running, "/v1/jobs", {"kind": "b" * 1_000_000})
    assert answer.status_code == 422
    assert len(answer.content) < 20 * MAX_FAULT_CHARACTERS


@pytest.mark.parametrize(
    "body", [b"[" * 40, b"[" * 3_000_000, b'{"a":' * 1_000_000], ids=["40", "lists", "objects"]
)
def test_nested_bodies_are_refused(running: Server, body: bytes) -> None:
    answer = post(running, "/v1/segment", body)
    assert answer.status_code in (413, 422)


# Points


def prompts_of(*points: int) -> list[dict[str, Any]]:
    return [{"points": [[i % 600, i % 500] for i in range(count)]} for count in points]


def test_points_of_all_prompts_are_bounded_together(running: Server, image_id: str) -> None:
    most = MAX_IMAGE_POINTS // MAX_POINTS
    body = {"image_id": image_id, "prompts": prompts_of(*[MAX_POINTS] * most)}
    assert post(running, "/v1/segment", body).status_code == 200
    body["prompts"] = prompts_of(*[MAX_POINTS] * most, 1)
    problem = assert_refused(post(running, "/v1/segment", body), 422, "bad_input", "prompts")
    assert str(MAX_IMAGE_POINTS) in problem["detail"]
    batch = {
        "kind": "batch",
        "input": {"image_ids": [image_id]},
        "params": {"operation": "segment", "prompts": {image_id: body["prompts"]}},
    }
    assert_refused(post(running, "/v1/jobs", batch), 422, "bad_input", f"params.prompts.{image_id}")


def test_the_largest_honest_request_fits(running: Server, image_id: str) -> None:
    """As many prompts and points as allowed, with all that a prompt may hold."""
    each = MAX_IMAGE_POINTS // MAX_PROMPTS
    prompts = [
        {
            "points": [[i, j] for j in range(each)],
            "labels": [1] * each,
            "box": [0, 0, 600, 500],
            "mask_id": "x",
        }
        for i in range(MAX_PROMPTS)
    ]
    answer = post(
        running, "/v1/segment", {"image_id": image_id, "prompts": prompts, "format": "rle", "select": "all"}
    )
    assert_refused(answer, 404, "mask_not_found")  # it got as far as the mask_ids


def test_a_batch_of_as_many_images_as_allowed_fits(running: Server) -> None:
    ids = [f"{i:064x}" for i in range(100_000)]
    prompts = {i: [{"points": [[1, 2], [3, 4]], "labels": [1, 0]}] for i in ids}
    body = {
        "kind": "batch",
        "model": "none",
        "input": {"image_ids": ids, "names": ids},
        "params": {"operation": "segment", "prompts": prompts},
    }
    answer = running.client.post("/v1/jobs", json=body, timeout=120)
    assert answer.status_code == 404, answer.text
    assert "none" in answer.json()["detail"]


# gRPC


@pytest.mark.parametrize("data", [b"\xff" * 1000, b"\x13" * 100_000, b"\x0a\x02\xff\xfe", b"\x0a\x05a"])
def test_malformed_messages_are_invalid_arguments(channel: grpc.Channel, data: bytes) -> None:
    code, details = send_raw(channel, data)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].metadata["remedy"]


def test_malformed_parts_of_an_upload_are_invalid_arguments(channel: grpc.Channel) -> None:
    upload = channel.stream_unary("/segserve.v1.SegmentationService/UploadImage")
    code, _ = read_refusal(upload, iter([b"\xff" * 100]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    watch = channel.unary_stream("/segserve.v1.JobService/WatchJob")
    code, _ = read_refusal(lambda request, timeout: list(watch(request, timeout=timeout)), b"\xff" * 100)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_millions_of_empty_prompts_are_refused(channel: grpc.Channel) -> None:
    code, details = send_raw(channel, b"\x1a\x00" * 2_000_000)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details["ErrorInfo"].reason == "TOO_LARGE"


def test_prompts_and_points_of_a_message_are_bounded(channel: grpc.Channel, image_id: str) -> None:
    stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)

    def request(*points: int) -> segmentation_pb2.SegmentRequest:
        point = segmentation_pb2.Point(x=1, y=1)
        prompts = [segmentation_pb2.Prompt(points=[point] * count) for count in points]
        return segmentation_pb2.SegmentRequest(image_id=image_id, prompts=prompts)

    most = MAX_IMAGE_POINTS // MAX_POINTS
    for refused in (
        request(*[1] * (MAX_PROMPTS + 1)),
        request(*[MAX_POINTS] * most, 1),
        request(MAX_POINTS + 1),
    ):
        code, details = read_refusal(stub.Segment, refused)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details["BadRequest"].field_violations[0].field.startswith("prompts")
    assert len(stub.Segment(request(*[1] * MAX_PROMPTS), timeout=60).results) == MAX_PROMPTS


def test_prompts_of_a_job_are_bounded(channel: grpc.Channel) -> None:
    stub = jobs_pb2_grpc.JobServiceStub(channel)
    prompt = jobs_pb2.FramePrompt(prompt=segmentation_pb2.Prompt(points=[segmentation_pb2.Point()]))
    objects = [jobs_pb2.ObjectPrompts(object_id=1, prompts=[prompt] * 200_000)]
    video = jobs_pb2.Video(file_id="a", objects=objects)
    code, _ = read_refusal(stub.SubmitJob, jobs_pb2.SubmitJobRequest(video=video))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


# The watchdog


def large_batch(count: int) -> bytes:
    """As large as honest ones get: a box for each image. The last one is missing, so that no job comes of it."""
    ids = [f"{number:064x}" for number in range(count)]
    params = {"operation": "segment", "prompts": {image_id: [{"box": [1, 2, 3, 4]}] for image_id in ids[:-1]}}
    return json.dumps({"kind": "batch", "input": {"image_ids": ids}, "params": params}).encode()


def batch_with_options(count: int) -> bytes:
    params = {"operation": "embed", "options": {f"{number:x}": [1, 2] for number in range(count)}}
    return json.dumps({"kind": "batch", "input": {"image_ids": ["a"]}, "params": params}).encode()


def unknown_keys_of_a_prompt(count: int) -> bytes:
    objects = [{"object_id": 1, "prompts": [{f"{number:x}": 1 for number in range(count)}]}]
    body = {"kind": "video", "input": {"file_id": "a"}, "params": {"objects": objects}}
    return json.dumps(body).encode()


def test_a_large_batch_is_checked_whole(running: Server) -> None:
    refused = post(running, "/v1/jobs", large_batch(20_000))
    assert_refused(refused, 422, "bad_input", "params.prompts")
    assert f"{19_999:064x}" in refused.json()["detail"]


def test_nobody_else_waits(running: Server, channel: grpc.Channel, image_id: str) -> None:
    """/livez and clicks are answered while each of the worst requests is refused, and the event loop is never late."""
    objects = json.dumps([[[[]]]] * 400_000).encode()
    attacks: list[Callable[[], Any]] = [
        lambda: post(running, "/v1/segment", unknown_keys(1_000_000)),
        lambda: post(running, "/v1/segment", unknown_keys(20_000)),
        lambda: post(
            running, "/v1/segment", b'{"prompts":[' + (b"[" * 30 + b"]" * 30 + b",") * 200_000 + b"1]}"
        ),
        lambda: post(running, "/v1/segment", b'{"prompts":[' + b'{"points":[[1,2]]},' * 300_000 + b"1]}"),
        lambda: post(running, "/v1/segment", b'{"prompts":' + objects + b"}"),
        lambda: post(running, "/v1/segment", b'{"image_id":"' + b'\\"' * 10_000_000 + b'"}'),
        lambda: post(running, "/v1/jobs", unknown_keys(300_000, kind="batch")),
        lambda: post(running, "/v1/jobs", b"[" * 30_000_000),
        lambda: post(running, "/v1/jobs", large_batch(100_000)),
        lambda: post(running, "/v1/jobs", batch_with_options(300_000)),
        lambda: post(running, "/v1/jobs", unknown_keys_of_a_prompt(300_000)),
        lambda: send_raw(channel, b"\x1a\x00" * 2_000_000),
        lambda: send_raw(channel, b"\x1a\x06" + b"\x0a\x00" * 3 + b"\x1a\x06" * 1_000_000),
        lambda: send_raw(channel, b"\x1a\x00" * 8_000),
        lambda: send_raw(channel, b"\x13" * 10_000_000),
    ]
    for number, attack in enumerate(attacks):
        sender = threading.Thread(target=attack)
        sender.start()
        with httpx.Client(base_url=running.url, timeout=60) as watcher:
            while sender.is_alive():
                start = time.perf_counter()
                assert watcher.get("/livez").status_code == 200
                assert time.perf_counter() - start < MAX_WAIT_S, f"attack {number}"
                assert running.metric("segserve_event_loop_lag_seconds") < MAX_WAIT_S, f"attack {number}"
                time.sleep(0.02)
        sender.join()
    assert running.click(image_id, 413, 190).status_code == 200
