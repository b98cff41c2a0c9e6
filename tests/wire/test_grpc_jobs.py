"""Files and jobs over gRPC on a real service: the same answers and the same refusals as REST."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import orjson
import pytest
import SimpleITK as sitk
from google.protobuf.struct_pb2 import Struct

from segserve.v1 import files_pb2, jobs_pb2
from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.files_pb2_grpc import FileServiceStub
from segserve.v1.jobs_pb2_grpc import JobServiceStub
from tests import moving_cells
from tests.files import sample_files
from tests.serving import Server
from tests.wire.grpc_calls import read_refusal


@pytest.fixture(scope="module")
def image_id(grpc_server: Server, nuclei: Path) -> str:
    return grpc_server.upload(nuclei)


def file_chunks(data: bytes, size: int = 300) -> Iterator[files_pb2.UploadFileRequest]:
    for start in range(0, len(data), size):
        yield files_pb2.UploadFileRequest(chunk=data[start : start + size])


def test_a_file_is_stored_and_deleted_as_over_rest(target: str, grpc_server: Server, tmp_path: Path) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = FileServiceStub(channel)
        video = sample_files.write_video(tmp_path / "clip.mp4").read_bytes()
        result = stub.UploadFile(file_chunks(video)).file
        assert result.kind == files_pb2.FILE_KIND_VIDEO
        assert (result.frames, result.width, result.height) == (20, 64, 48)
        assert not result.HasField("spacing")
        by_rest = grpc_server.client.post("/v1/files", content=video).json()
        assert (by_rest["file_id"], by_rest["format"], by_rest["fps"]) == (
            result.file_id,
            result.format,
            result.fps,
        )
        where = files_pb2.GetFileRequest(file_id=result.file_id)
        assert stub.GetFile(where).file == result
        stub.DeleteFile(files_pb2.DeleteFileRequest(file_id=result.file_id))
        assert read_refusal(stub.GetFile, where)[0] is grpc.StatusCode.NOT_FOUND

        sitk.WriteImage(sample_files.make_volume(), str(tmp_path / "v.nii"))
        volume = stub.UploadFile(file_chunks((tmp_path / "v.nii").read_bytes())).file
        assert (volume.kind, volume.frames) == (files_pb2.FILE_KIND_VOLUME, 6)
        spacing = volume.spacing
        assert (spacing.slice, spacing.row, spacing.column) == pytest.approx((2.0, 0.75, 0.5))
        assert not volume.HasField("fps")

        def chunks_of_series(series: str) -> Iterator[files_pb2.UploadFileRequest]:
            yield files_pb2.UploadFileRequest(options=files_pb2.FileOptions(series=series, time=0))
            yield files_pb2.UploadFileRequest(chunk=video)

        chosen = stub.UploadFile(chunks_of_series("0")).file
        by_rest = grpc_server.client.post("/v1/files?series=0&time=0", content=video).json()
        assert chosen.file_id == by_rest["file_id"]
        assert (list(chosen.contents), chosen.left_out.count) == ([], 0)
        assert read_refusal(stub.UploadFile, chunks_of_series("7"))[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert read_refusal(stub.UploadFile, chunks_of_series(""))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_labels_of_a_volume_are_those_of_rest(target: str, grpc_server: Server, tmp_path: Path) -> None:
    volume = sample_files.make_volume()
    sitk.WriteImage(volume, str(tmp_path / "scan.nii"))
    sitk.WriteImage(sitk.Cast(volume > 0, sitk.sitkUInt8) * 3, str(tmp_path / "labels.nii"))
    scan = (tmp_path / "scan.nii").read_bytes()
    data = (tmp_path / "labels.nii").read_bytes()
    file_id = grpc_server.client.post("/v1/files", content=scan).json()["file_id"]
    by_rest = grpc_server.client.post(f"/v1/files/{file_id}/labels?axis=1", content=data).json()
    assert by_rest["slices"]

    def chunks(**first: object) -> Iterator[files_pb2.ReadLabelsRequest]:
        yield files_pb2.ReadLabelsRequest(**first)  # type: ignore[arg-type]
        for start in range(0, len(data), 300):
            yield files_pb2.ReadLabelsRequest(chunk=data[start : start + 300])

    with grpc.insecure_channel(target) as channel:
        stub = FileServiceStub(channel)
        slices = list(stub.ReadLabels(chunks(file_id=file_id, axis=1)))
        assert [one.slice for one in slices] == [one["slice"] for one in by_rest["slices"]]
        for one, expected in zip(slices, by_rest["slices"], strict=True):
            for item, wanted in zip(one.objects, expected["objects"], strict=True):
                assert (item.object_id, item.area, item.mask.counts) == (
                    3,
                    wanted["area"],
                    wanted["mask"]["counts"],
                )
                assert [item.mask.height, item.mask.width] == wanted["mask"]["size"]
                assert [item.box.x0, item.box.y0, item.box.x1, item.box.y1] == wanted["box"]
                assert not item.HasField("name")

        def read(requests: Iterator[files_pb2.ReadLabelsRequest], timeout: float) -> object:
            return list(stub.ReadLabels(requests, timeout=timeout))

        for first, code in (
            ({"file_id": file_id, "axis": 3}, grpc.StatusCode.INVALID_ARGUMENT),
            ({"file_id": "none"}, grpc.StatusCode.NOT_FOUND),
        ):
            assert read_refusal(read, chunks(**first))[0] is code


def test_invalid_files_are_refused(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = FileServiceStub(channel)
        for data, field in ((b"", "chunk"), (b"no file at all", "file"), (bytes(1_000_001), "chunk")):
            code, details = read_refusal(stub.UploadFile, file_chunks(data, 100_000))
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details["BadRequest"].field_violations[0].field == field
            assert details["ErrorInfo"].metadata["remedy"]
        code, _ = read_refusal(stub.DeleteFile, files_pb2.DeleteFileRequest(file_id="nothing"))
        assert code is grpc.StatusCode.NOT_FOUND


def test_a_job_from_its_submission_to_its_results(target: str, grpc_server: Server, image_id: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = JobServiceStub(channel)
        options = Struct()
        options.update({"method": "ais", "params": {"min_size": 60}})
        batch = jobs_pb2.Batch(image_ids=[image_id, "missing"], operation="automatic", options=options)
        request = jobs_pb2.SubmitJobRequest(batch=batch, idempotency_key="once")
        job = stub.SubmitJob(request).job
        assert stub.SubmitJob(request).job.job_id == job.job_id
        received = list(stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job.job_id), timeout=60))
        assert received[0].job.state == jobs_pb2.JOB_STATE_QUEUED
        last = received[-1].job
        assert last.state == jobs_pb2.JOB_STATE_SUCCEEDED
        assert (last.done, last.total, last.failed) == (2, 2, 1)
        assert last.ended_at.ToMilliseconds() >= last.created_at.ToMilliseconds()
        rest = list(
            stub.WatchJob(
                jobs_pb2.WatchJobRequest(job_id=job.job_id, after_event=received[0].event), timeout=60
            )
        )
        assert rest == received[1:]
        lines = [r.json for r in stub.ReadResults(jobs_pb2.ReadResultsRequest(job_id=job.job_id))]
        assert lines == grpc_server.client.get(f"/v1/jobs/{job.job_id}/results").text.splitlines()
        skipped = stub.ReadResults(jobs_pb2.ReadResultsRequest(job_id=job.job_id, skip=1))
        assert [r.json for r in skipped] == lines[1:]
        assert job.job_id in [item.job_id for item in stub.ListJobs(jobs_pb2.ListJobsRequest()).jobs]
        cancelled = stub.CancelJob(jobs_pb2.CancelJobRequest(job_id=job.job_id)).job
        assert cancelled.state == jobs_pb2.JOB_STATE_SUCCEEDED, "what has ended stays as it ended"
        deleted = stub.DeleteJob(jobs_pb2.DeleteJobRequest(job_id=job.job_id))
        assert not deleted.HasField("job")
        assert grpc_server.client.get(f"/v1/jobs/{job.job_id}").status_code == 404


def test_objects_are_followed_through_an_uploaded_file(
    target: str, grpc_server: Server, tmp_path: Path
) -> None:
    values, _ = moving_cells.draw_volume(depth=6)
    values[5] = values[5].min()  # nothing is there
    pictures = {f"{index}.png": sample_files.encode_png(frame) for index, frame in enumerate(values)}
    file_id = grpc_server.client.post(
        "/v1/files", content=sample_files.write_zip(tmp_path / "x.zip", pictures).read_bytes()
    ).json()["file_id"]

    def object_prompts(object_id: int, frame: int, x: float, y: float) -> jobs_pb2.ObjectPrompts:
        prompt = pb.Prompt(points=[pb.Point(x=x, y=y)])
        frame_prompt = jobs_pb2.FramePrompt(frame=frame, prompt=prompt)
        return jobs_pb2.ObjectPrompts(object_id=object_id, name=f"cell {object_id}", prompts=[frame_prompt])

    with grpc.insecure_channel(target) as channel:
        stub = JobServiceStub(channel)
        params = Struct()
        params.update({"direction": "forward"})
        video = jobs_pb2.Video(file_id=file_id, objects=[object_prompts(7, 0, 150, 120)], params=params)
        job_id = stub.SubmitJob(jobs_pb2.SubmitJobRequest(video=video)).job.job_id
        *_, last = stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id))
        assert (last.job.kind, last.job.state, last.job.done) == ("video", jobs_pb2.JOB_STATE_SUCCEEDED, 6)
        more = jobs_pb2.AddPromptsRequest(job_id=job_id, objects=[object_prompts(9, 3, 60, 63)])
        assert stub.AddPrompts(more).job.state == jobs_pb2.JOB_STATE_QUEUED
        *_, last = stub.WatchJob(jobs_pb2.WatchJobRequest(job_id=job_id, after_event=last.event))
        lines = [orjson.loads(r.json) for r in stub.ReadResults(jobs_pb2.ReadResultsRequest(job_id=job_id))]
        assert [[item["object_id"] for item in line["objects"]] for line in lines] == [[7]] * 3 + [
            [7, 9]
        ] * 2 + [[]]
        ends = [(end.object_id, end.frame, end.last_frame) for end in last.job.object_ends]
        assert (last.job.object_end_count, ends) == (2, [(7, 5, 4), (9, 5, 4)])
        assert [end["object_id"] for end in lines[5]["ends"]] == [7, 9]
        answer = grpc_server.client.get(f"/v1/jobs/{job_id}/results?format=coco")
        attributes = [item["attributes"] for item in answer.json()["annotations"]]
        assert {(item["object_id"], item["name"]) for item in attributes} == {(7, "cell 7"), (9, "cell 9")}
        with pytest.raises(grpc.RpcError) as caught:
            stub.AddPrompts(jobs_pb2.AddPromptsRequest(job_id=job_id, objects=[object_prompts(9, 6, 1, 1)]))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_jobs_are_refused_as_over_rest(target: str, image_id: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = JobServiceStub(channel)
        code, _ = read_refusal(stub.GetJob, jobs_pb2.GetJobRequest(job_id="nobody"))
        assert code is grpc.StatusCode.NOT_FOUND
        code, details = read_refusal(stub.SubmitJob, jobs_pb2.SubmitJobRequest())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details["BadRequest"].field_violations[0].field == "work"
        batch = jobs_pb2.Batch(image_ids=[image_id], operation="fly")
        code, details = read_refusal(stub.SubmitJob, jobs_pb2.SubmitJobRequest(batch=batch))
        assert details["BadRequest"].field_violations[0].field == "params.operation"
        batch = jobs_pb2.Batch(image_ids=[image_id], operation="embed")
        with_webhook = jobs_pb2.SubmitJobRequest(batch=batch, webhook="https://example.org/")
        code, details = read_refusal(stub.SubmitJob, with_webhook)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert details["BadRequest"].field_violations[0].field == "webhook"
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.WatchJob(jobs_pb2.WatchJobRequest(job_id="nobody")))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
