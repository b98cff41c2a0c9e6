"""gRPC through a real service: the same masks and the same refusals as REST."""

import base64
import importlib.resources
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
import SimpleITK as sitk
from google.protobuf.struct_pb2 import Struct
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segserve.v1 import files_pb2, jobs_pb2
from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.files_pb2_grpc import FileServiceStub
from segserve.v1.jobs_pb2_grpc import JobServiceStub
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests import drawn
from tests.files import sample_files
from tests.serving import Server

ROOT = Path(__file__).parents[2]
ON_A_NUCLEUS = pb.Prompt(points=[pb.Point(x=413, y=190)])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("grpc"), grpc_port="0", max_image_mb="2", max_file_mb="1")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def target(both: Server) -> str:
    found = re.search(r"gRPC at (\S+)", both.log.read_text())
    assert found
    return found[1]


@pytest.fixture(scope="module")
def stub(target: str) -> Iterator[Any]:
    with grpc.insecure_channel(target) as channel:
        yield SegmentationServiceStub(channel)


@pytest.fixture(scope="module")
def image_id(both: Server, nuclei: Path) -> str:
    return both.upload(nuclei)


def chunks(data: bytes, *, size: int = 50_000, **options: Any) -> Iterator[pb.UploadImageRequest]:
    yield pb.UploadImageRequest(options=pb.ReadOptions(**options))
    for start in range(0, len(data), size):
        yield pb.UploadImageRequest(chunk=data[start : start + size])


def refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, dict[str, Any]]:
    """The status, and its details by kind."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    packed = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    details: dict[str, Any] = {}
    for detail in status_pb2.Status.FromString(packed).details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                details[kind.__name__] = kind.FromString(detail.value)
    return caught.value.code(), details


def rest(both: Server, image_id: str, mask_format: str, **body: Any) -> Any:
    answer = both.client.post(
        "/v1/segment",
        json={"image_id": image_id, "format": mask_format, "prompts": [{"points": [[413, 190]]}], **body},
    )
    return answer.json()["results"][0]["masks"]


def test_masks_are_those_of_rest_in_every_format(both: Server, stub: Any, image_id: str) -> None:
    for name in ("rle", "polygon", "png", "logits"):
        wanted = rest(both, image_id, name, select="all")
        answer = stub.Segment(
            pb.SegmentRequest(
                image_id=image_id,
                prompts=[ON_A_NUCLEUS],
                format=f"MASK_FORMAT_{name.upper()}",
                select=pb.SELECT_ALL,
            )
        )
        assert (answer.model, answer.width, answer.height) == ("starter", 696, 520)
        for found, expected in zip(answer.results[0].masks, wanted, strict=True):
            assert found.score == pytest.approx(expected["score"])
            assert found.area == expected["area"]
            assert [found.box.x0, found.box.y0, found.box.x1, found.box.y1] == expected["box"]
            mask = expected["mask"]
            match name:
                case "rle":
                    assert [found.rle.height, found.rle.width] == mask["size"]
                    assert found.rle.counts == mask["counts"]
                case "polygon":
                    assert json.loads(found.polygon) == mask
                case "png":
                    assert found.png == base64.b64decode(mask)
                case "logits":
                    assert found.logits.data == base64.b64decode(mask["data"])


def test_every_sort_of_prompt(both: Server, stub: Any, image_id: str) -> None:
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
    wanted = both.client.post("/v1/segment", json=body).json()["results"]
    assert [r.masks[0].rle.counts for r in answer.results] == [
        r["masks"][0]["mask"]["counts"] for r in wanted
    ]


def test_images_come_in_chunks_and_go(both: Server, stub: Any, nuclei: Path) -> None:
    data = nuclei.read_bytes() + b"\0"
    sent = stub.UploadImage(chunks(data, normalise=pb.NORMALISE_PERCENTILE))
    assert (sent.width, sent.height) == (696, 520)
    posted = both.upload(data, normalise="percentile")
    assert sent.image_id == posted
    assert stub.GetImage(pb.GetImageRequest(image_id=posted)).width == 696
    assert len(stub.GetEmbedding(pb.GetEmbeddingRequest(image_id=posted)).embedding) > 100_000
    stub.DeleteImage(pb.DeleteImageRequest(image_id=posted))
    code, details = refusal(stub.GetImage, pb.GetImageRequest(image_id=posted))
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
        found, details = refusal(stub.Segment, request)
        assert found is code
        assert details["BadRequest"].field_violations[0].field == field
        assert details["ErrorInfo"].domain == "segserve"


def test_all_faults_are_listed_in_the_words_of_rest(both: Server, stub: Any) -> None:
    long = "x" * 200
    reversed_box = pb.Prompt(box=pb.Box(x0=9, y0=9, x1=1, y1=1))
    _, details = refusal(stub.Segment, pb.SegmentRequest(image_id=long, prompts=[reversed_box]))
    found = [{"field": v.field, "message": v.description} for v in details["BadRequest"].field_violations]
    body = {"image_id": long, "prompts": [{"box": [9.0, 9.0, 1.0, 1.0]}]}
    assert found == both.client.post("/v1/segment", json=body).json()["errors"]
    assert [fault["field"] for fault in found] == ["image_id", "prompts.0"]


def test_uploads_that_cannot_be(stub: Any) -> None:
    for data, code in (
        (b"", grpc.StatusCode.INVALID_ARGUMENT),
        (b"no picture", grpc.StatusCode.INVALID_ARGUMENT),
        (bytes(3_000_000), grpc.StatusCode.INVALID_ARGUMENT),
    ):
        assert refusal(stub.UploadImage, chunks(data))[0] is code


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
            deadline = time.monotonic() + 30  # it follows /readyz, a moment later
            while health.Check(request).status != health_pb2.HealthCheckResponse.SERVING:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    models = {model.name: model for model in stub.ListModels(pb.ListModelsRequest()).models}
    assert (models["starter"].default, models["starter"].low_res) == (True, 128)
    assert not models["starter-unet"].default


def parts(data: bytes, size: int = 300) -> Iterator[files_pb2.UploadFileRequest]:
    for start in range(0, len(data), size):
        yield files_pb2.UploadFileRequest(chunk=data[start : start + size])


def test_a_file_is_stored_and_deleted_as_over_rest(target: str, both: Server, tmp_path: Path) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = FileServiceStub(channel)
        video = sample_files.write_video(tmp_path / "clip.mp4").read_bytes()
        found = stub.UploadFile(parts(video)).file
        assert found.kind == files_pb2.FILE_KIND_VIDEO
        assert (found.frames, found.width, found.height) == (20, 64, 48)
        assert not found.HasField("spacing")
        told = both.client.post("/v1/files", content=video).json()
        assert (told["file_id"], told["format"], told["fps"]) == (found.file_id, found.format, found.fps)
        where = files_pb2.GetFileRequest(file_id=found.file_id)
        assert stub.GetFile(where).file == found
        stub.DeleteFile(files_pb2.DeleteFileRequest(file_id=found.file_id))
        assert refusal(stub.GetFile, where)[0] is grpc.StatusCode.NOT_FOUND

        sitk.WriteImage(sample_files.make_volume(), str(tmp_path / "v.nii"))
        volume = stub.UploadFile(parts((tmp_path / "v.nii").read_bytes())).file
        assert (volume.kind, volume.frames) == (files_pb2.FILE_KIND_VOLUME, 6)
        spacing = volume.spacing
        assert (spacing.slice, spacing.row, spacing.column) == pytest.approx((2.0, 0.75, 0.5))
        assert not volume.HasField("fps")


def test_files_that_cannot_be(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = FileServiceStub(channel)
        for data, field in ((b"", "chunk"), (b"no file at all", "file"), (bytes(1_000_001), "chunk")):
            code, details = refusal(stub.UploadFile, parts(data, 100_000))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details["BadRequest"].field_violations[0].field == field
            assert details["ErrorInfo"].metadata["remedy"]
        code, _ = refusal(stub.DeleteFile, files_pb2.DeleteFileRequest(file_id="nothing"))
        assert code is grpc.StatusCode.NOT_FOUND


def test_a_job_from_its_submission_to_its_results(target: str, both: Server, image_id: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = JobServiceStub(channel)
        options = Struct()
        options.update({"method": "ais", "params": {"min_size": 60}})
        batch = jobs_pb2.Batch(image_ids=[image_id, "missing"], operation="automatic", options=options)
        request = jobs_pb2.SubmitJobRequest(batch=batch, idempotency_key="once")
        job = stub.SubmitJob(request).job
        assert stub.SubmitJob(request).job.job_id == job.job_id
        seen = list(stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job.job_id), timeout=60))
        assert seen[0].job.state == jobs_pb2.JOB_STATE_QUEUED
        last = seen[-1].job
        assert last.state == jobs_pb2.JOB_STATE_SUCCEEDED
        assert (last.done, last.total, last.failed) == (2, 2, 1)
        assert last.ended_at.ToMilliseconds() >= last.created_at.ToMilliseconds()
        rest = list(
            stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job.job_id, after_event=seen[0].event), timeout=60)
        )
        assert rest == seen[1:]
        lines = [r.json for r in stub.ReadResults(jobs_pb2.ReadResultsRequest(job_id=job.job_id))]
        assert lines == both.client.get(f"/v1/jobs/{job.job_id}/results").text.splitlines()
        skipped = stub.ReadResults(jobs_pb2.ReadResultsRequest(job_id=job.job_id, skip=1))
        assert [r.json for r in skipped] == lines[1:]
        assert job.job_id in [each.job_id for each in stub.ListJobs(jobs_pb2.ListJobsRequest()).jobs]
        cancelled = stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job.job_id)).job
        assert cancelled.state == jobs_pb2.JOB_STATE_SUCCEEDED, "what has ended stays as it ended"


def test_objects_are_followed_through_an_uploaded_file(target: str, both: Server, tmp_path: Path) -> None:
    values, _ = drawn.volume(depth=6)
    pictures = {f"{index}.png": sample_files.encode_png(frame) for index, frame in enumerate(values)}
    file_id = both.client.post(
        "/v1/files", content=sample_files.write_zip(tmp_path / "x.zip", pictures).read_bytes()
    ).json()["file_id"]

    def followed(object_id: int, frame: int, x: float, y: float) -> jobs_pb2.ObjectPrompts:
        prompt = pb.Prompt(points=[pb.Point(x=x, y=y)])
        placed = jobs_pb2.FramePrompt(frame=frame, prompt=prompt)
        return jobs_pb2.ObjectPrompts(object_id=object_id, prompts=[placed])

    with grpc.insecure_channel(target) as channel:
        stub = JobServiceStub(channel)
        params = Struct()
        params.update({"direction": "forward"})
        video = jobs_pb2.Video(file_id=file_id, objects=[followed(7, 0, 150, 120)], params=params)
        job_id = stub.SubmitJob(jobs_pb2.SubmitJobRequest(video=video)).job.job_id
        *_, last = stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id))
        assert (last.job.kind, last.job.state, last.job.done) == ("video", jobs_pb2.JOB_STATE_SUCCEEDED, 6)
        more = jobs_pb2.AddPromptsRequest(job_id=job_id, objects=[followed(9, 3, 60, 63)])
        assert stub.AddPrompts(more).job.state == jobs_pb2.JOB_STATE_QUEUED
        *_, last = stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id, after_event=last.event))
        lines = [orjson.loads(r.json) for r in stub.ReadResults(jobs_pb2.ReadResultsRequest(job_id=job_id))]
        assert [[each["object_id"] for each in line["objects"]] for line in lines] == [[7]] * 3 + [[7, 9]] * 3
        with pytest.raises(grpc.RpcError) as caught:
            stub.AddPrompts(jobs_pb2.AddPromptsRequest(job_id=job_id, objects=[followed(9, 6, 1, 1)]))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_jobs_are_refused_as_over_rest(target: str, image_id: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = JobServiceStub(channel)
        code, _ = refusal(stub.GetJob, jobs_pb2.GetJobRequest(job_id="nobody"))
        assert code is grpc.StatusCode.NOT_FOUND
        code, details = refusal(stub.SubmitJob, jobs_pb2.SubmitJobRequest())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details["BadRequest"].field_violations[0].field == "work"
        batch = jobs_pb2.Batch(image_ids=[image_id], operation="fly")
        code, details = refusal(stub.SubmitJob, jobs_pb2.SubmitJobRequest(batch=batch))
        assert details["BadRequest"].field_violations[0].field == "params.operation"
        batch = jobs_pb2.Batch(image_ids=[image_id], operation="embed")
        told = jobs_pb2.SubmitJobRequest(batch=batch, webhook="https://example.org/")
        code, details = refusal(stub.SubmitJob, told)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert details["BadRequest"].field_violations[0].field == "webhook"
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.WatchJob(jobs_pb2.WatchJobRequest(job_id="nobody")))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_client_without_the_contract_lists_and_calls_it(target: str, image_id: str) -> None:
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


def test_the_generated_code_is_that_of_the_contract(tmp_path: Path) -> None:
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


def test_both_skins_are_counted(both: Server, stub: Any, image_id: str) -> None:
    stub.Segment(pb.SegmentRequest(image_id=image_id, prompts=[ON_A_NUCLEUS], model="starter"))
    metrics = both.client.get("/metrics").text
    route = "/segserve.v1.SegmentationService/Segment"
    line = f'segserve_requests_total{{method="gRPC",model="starter",route="{route}",status="OK"}}'
    assert line in metrics
    assert f'route="{route}",status="NOT_FOUND"' in metrics
