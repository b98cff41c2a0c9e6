"""gRPC on a real service: the same masks and the same refusals as REST."""

import base64
import importlib.resources
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests.serving import Server
from tests.wire.grpc_calls import read_refusal

ROOT = Path(__file__).parents[2]
ON_A_NUCLEUS = pb.Prompt(points=[pb.Point(x=413, y=190)])


@pytest.fixture(scope="module")
def stub(target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target) as channel:
        yield SegmentationServiceStub(channel)


@pytest.fixture(scope="module")
def image_id(grpc_server: Server, nuclei: Path) -> str:
    return grpc_server.upload(nuclei)


def chunks(data: bytes, *, size: int = 50_000, **options: Any) -> Iterator[pb.UploadImageRequest]:
    yield pb.UploadImageRequest(options=pb.ReadOptions(**options))
    for start in range(0, len(data), size):
        yield pb.UploadImageRequest(chunk=data[start : start + size])


def rest(grpc_server: Server, image_id: str, mask_format: str, **body: Any) -> Any:
    answer = grpc_server.client.post(
        "/v1/segment",
        json={"image_id": image_id, "format": mask_format, "prompts": [{"points": [[413, 190]]}], **body},
    )
    return answer.json()["results"][0]["masks"]


def test_outlines_of_fewer_vertices_are_those_of_rest(grpc_server: Server, stub: Any, image_id: str) -> None:
    (expected,) = rest(grpc_server, image_id, "polygon", tolerance=1.0)
    request = pb.SegmentRequest(
        image_id=image_id, prompts=[ON_A_NUCLEUS], format=pb.MASK_FORMAT_POLYGON, tolerance=1.0
    )
    assert json.loads(stub.Segment(request).results[0].masks[0].polygon) == expected["mask"]


def test_masks_are_those_of_rest_in_every_format(grpc_server: Server, stub: Any, image_id: str) -> None:
    for name in ("rle", "polygon", "png", "logits"):
        masks = rest(grpc_server, image_id, name, select="all")
        answer = stub.Segment(
            pb.SegmentRequest(
                image_id=image_id,
                prompts=[ON_A_NUCLEUS],
                format=f"MASK_FORMAT_{name.upper()}",
                select=pb.SELECT_ALL,
            )
        )
        assert (answer.model, answer.width, answer.height) == ("starter", 696, 520)
        for result, expected in zip(answer.results[0].masks, masks, strict=True):
            assert result.score == pytest.approx(expected["score"])
            assert result.area == expected["area"]
            assert [result.box.x0, result.box.y0, result.box.x1, result.box.y1] == expected["box"]
            mask = expected["mask"]
            match name:
                case "rle":
                    assert [result.rle.height, result.rle.width] == mask["size"]
                    assert result.rle.counts == mask["counts"]
                case "polygon":
                    assert json.loads(result.polygon) == mask
                case "png":
                    assert result.png == base64.b64decode(mask)
                case "logits":
                    assert result.logits.data == base64.b64decode(mask["data"])


def test_a_raw_mask_is_that_of_rest(grpc_server: Server, stub: Any, image_id: str) -> None:
    for raw in (False, True):
        (expected,) = rest(grpc_server, image_id, "rle", raw=raw, multimask=False)
        prompt = pb.Prompt(points=[pb.Point(x=413, y=190)])
        answer = stub.Segment(
            pb.SegmentRequest(image_id=image_id, prompts=[prompt], raw=raw, multimask=False)
        )
        (mask,) = answer.results[0].masks
        assert (mask.area, mask.removed_parts, mask.filled_holes) == (
            expected["area"],
            expected["removed_parts"],
            expected["filled_holes"],
        )


def test_amg_is_that_of_rest_with_its_parameters(grpc_server: Server, stub: Any, image_id: str) -> None:
    params = {
        "points_per_side": 6,
        "pred_iou_thresh": 0.5,
        "stability_score_thresh": 0.5,
        "multimask_output": False,
    }
    for keeps in ("smallest", "all"):
        body = {"image_id": image_id, "method": "amg", "format": "rle", "raw": True}
        wanted = {**params, "nms_keeps": keeps}
        by_rest = grpc_server.client.post("/v1/automatic", json={**body, "params": wanted}).json()["objects"]
        answer = stub.Automatic(
            pb.AutomaticRequest(
                image_id=image_id,
                raw=True,
                format=pb.RESULT_FORMAT_RLE,
                amg=pb.AmgParams(**params, nms_keeps=f"NMS_KEEPS_{keeps.upper()}"),
            )
        )
        assert by_rest
        assert [item.rle.counts for item in answer.objects] == [item["mask"]["counts"] for item in by_rest]


def test_all_kinds_of_prompts(grpc_server: Server, stub: Any, image_id: str) -> None:
    first = stub.Segment(pb.SegmentRequest(image_id=image_id, prompts=[ON_A_NUCLEUS])).results[0].masks[0]
    again = pb.Prompt(points=[pb.Point(x=413, y=190), pb.Point(x=300, y=300, negative=True)])
    prompts = [
        pb.Prompt(box=pb.Box(x0=380, y0=160, x1=445, y1=225)),
        pb.Prompt(points=again.points, mask_id=first.mask_id),
        pb.Prompt(points=again.points, mask=first.rle),
    ]
    answer = stub.Segment(pb.SegmentRequest(image_id=image_id, prompts=prompts, multimask=False))
    points = [[413, 190], [300, 300]]
    body = {
        "image_id": image_id,
        "multimask": False,
        "prompts": [
            {"box": [380, 160, 445, 225]},
            {"points": points, "labels": [1, 0], "mask_id": first.mask_id},
            {
                "points": points,
                "labels": [1, 0],
                "mask": {"size": [520, 696], "counts": first.rle.counts},
            },
        ],
    }
    expected = grpc_server.client.post("/v1/segment", json=body).json()["results"]
    assert [r.masks[0].rle.counts for r in answer.results] == [
        r["masks"][0]["mask"]["counts"] for r in expected
    ]


def test_images_are_uploaded_in_chunks_and_deleted(grpc_server: Server, stub: Any, nuclei: Path) -> None:
    data = nuclei.read_bytes() + b"\0"
    sent = stub.UploadImage(chunks(data, normalise=pb.NORMALISE_PERCENTILE))
    assert (sent.width, sent.height) == (696, 520)
    posted = grpc_server.upload(data, normalise="percentile")
    assert sent.image_id == posted
    assert stub.GetImage(pb.GetImageRequest(image_id=posted)).width == 696
    assert len(stub.GetEmbedding(pb.GetEmbeddingRequest(image_id=posted)).embedding) > 100_000
    stub.DeleteImage(pb.DeleteImageRequest(image_id=posted))
    code, details = read_refusal(stub.GetImage, pb.GetImageRequest(image_id=posted))
    assert code is grpc.StatusCode.NOT_FOUND
    assert details["ErrorInfo"].reason == "IMAGE_NOT_FOUND"
    assert details["BadRequest"].field_violations[0].field == "image_id"


def test_refusals_name_the_field_and_the_remedy(stub: Any, image_id: str) -> None:
    outside = pb.Prompt(points=[pb.Point(x=5000, y=1)])
    cases: list[tuple[pb.SegmentRequest, grpc.StatusCode, str]] = [
        (pb.SegmentRequest(image_id=image_id), grpc.StatusCode.INVALID_ARGUMENT, "prompts"),
        (
            pb.SegmentRequest(image_id=image_id, prompts=[pb.Prompt()]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompts.0",
        ),
        (
            pb.SegmentRequest(image_id=image_id, prompts=[outside]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "prompts.0.points.0",
        ),
        (
            pb.SegmentRequest(image_id=image_id, prompts=[ON_A_NUCLEUS], format=99),
            grpc.StatusCode.INVALID_ARGUMENT,
            "format",
        ),
        (
            pb.SegmentRequest(image_id=image_id, prompts=[ON_A_NUCLEUS], model="x"),
            grpc.StatusCode.NOT_FOUND,
            "model",
        ),
        (pb.SegmentRequest(image_id="x", prompts=[ON_A_NUCLEUS]), grpc.StatusCode.NOT_FOUND, "image_id"),
    ]
    for request, code, field in cases:
        result, details = read_refusal(stub.Segment, request)
        assert result is code
        assert details["BadRequest"].field_violations[0].field == field
        assert details["ErrorInfo"].domain == "segserve"


def test_all_faults_are_listed_in_the_words_of_rest(grpc_server: Server, stub: Any) -> None:
    long = "x" * 200
    reversed_box = pb.Prompt(box=pb.Box(x0=9, y0=9, x1=1, y1=1))
    _, details = read_refusal(stub.Segment, pb.SegmentRequest(image_id=long, prompts=[reversed_box]))
    result = [{"field": v.field, "message": v.description} for v in details["BadRequest"].field_violations]
    body = {"image_id": long, "prompts": [{"box": [9.0, 9.0, 1.0, 1.0]}]}
    assert result == grpc_server.client.post("/v1/segment", json=body).json()["errors"]
    assert [fault["field"] for fault in result] == ["image_id", "prompts.0"]


def test_invalid_uploads_are_refused(stub: Any) -> None:
    for data, code in (
        (b"", grpc.StatusCode.INVALID_ARGUMENT),
        (b"no picture", grpc.StatusCode.INVALID_ARGUMENT),
        (bytes(3_000_000), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        assert read_refusal(stub.UploadImage, chunks(data))[0] is code


def test_a_message_over_the_limit_and_a_deadline_that_has_passed(stub: Any, image_id: str) -> None:
    with pytest.raises(grpc.RpcError) as large:
        stub.GetImage(pb.GetImageRequest(image_id="x" * 40_000_000))
    assert large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as late:
        stub.Segment(pb.SegmentRequest(image_id=image_id, prompts=[ON_A_NUCLEUS] * 100), timeout=0.001)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stub.GetImage(pb.GetImageRequest(image_id=image_id)).width == 696


def test_health_and_models(target: str, stub: Any) -> None:
    with grpc.insecure_channel(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "segserve.v1.SegmentationService"):
            request = health_pb2.HealthCheckRequest(service=name)
            deadline = time.monotonic() + 30  # health follows /readyz a moment later
            while health.Check(request).status != health_pb2.HealthCheckResponse.SERVING:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with pytest.raises(grpc.RpcError) as refused:
            health.List(health_pb2.HealthListRequest())
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as refused:
            health.Check(health_pb2.HealthCheckRequest(service="nothing"))
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    models = {model.name: model for model in stub.ListModels(pb.ListModelsRequest()).models}
    assert (models["starter"].default, models["starter"].low_res) == (True, 128)
    assert not models["starter-unet"].default
    assert (list(models["starter"].prompts), list(models["starter-unet"].prompts)) == (
        ["points", "boxes"],
        [],
    )


def test_a_client_without_the_proto_files_can_call_a_method(target: str, image_id: str) -> None:
    """By reflection alone, as grpcurl does."""
    buf = shutil.which("buf", path=f"{Path(sys.executable).parent}:{Path(sys.executable).parent}")
    if buf is None:
        pytest.skip("buf is not installed")
    curl = [buf, "curl", "--http2-prior-knowledge", "--protocol", "grpc"]
    listed = subprocess.run(
        [*curl, "--list-services", f"http://{target}"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "segserve.v1.SegmentationService" in listed.stdout
    assert "segserve.v1.FileService" in listed.stdout
    assert "segserve.v1.JobService" in listed.stdout
    assert "grpc.health.v1.Health" in listed.stdout
    body = json.dumps({"imageId": image_id, "prompts": [{"points": [{"x": 413, "y": 190}]}]})
    called = subprocess.run(
        [*curl, "--data", body, f"http://{target}/segserve.v1.SegmentationService/Segment"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(called.stdout)["results"][0]["masks"][0]["rle"]["counts"]


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    from grpc_tools import protoc

    include = importlib.resources.files("grpc_tools") / "_proto"
    sources = sorted((ROOT / "proto" / "segserve" / "v1").glob("*.proto"))
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = ["protoc", f"-I{ROOT / 'proto'}", f"-I{include}", *outputs, *map(str, sources)]
    assert protoc.main(command) == 0
    made = {p.name: p.read_text() for p in (tmp_path / "segserve" / "v1").iterdir()}
    kept = {
        p.name: p.read_text()
        for p in (ROOT / "service" / "segserve" / "v1").glob("*_pb2*")
        if p.suffix in (".py", ".pyi")
    }
    assert made == kept


def test_rest_and_grpc_requests_are_counted(grpc_server: Server, stub: Any, image_id: str) -> None:
    stub.Segment(pb.SegmentRequest(image_id=image_id, prompts=[ON_A_NUCLEUS], model="starter"))
    metrics = grpc_server.client.get("/metrics").text
    route = "/segserve.v1.SegmentationService/Segment"
    line = f'segserve_requests_total{{method="gRPC",model="starter",problem="",route="{route}",status="OK"}}'
    assert line in metrics
    assert f'route="{route}",status="NOT_FOUND"' in metrics
