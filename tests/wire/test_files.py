"""Files over REST, and batches of what is in them."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pycocotools.coco import COCO

from segserve.types import MB
from tests.files import sample_files
from tests.serving import Server
from tests.wire.responses import accepted_job_id, read_results, wait_until_ended


def upload(server: Server, path: Path) -> httpx.Response:
    return server.client.post("/v1/files", files={"file": (path.name, path.read_bytes())})


def submit(
    server: Server, source: dict[str, object], operation: str = "embed", **params: object
) -> httpx.Response:
    body = {"kind": "batch", "input": source, "params": {"operation": operation, **params}}
    return server.client.post("/v1/jobs", json=body)


def test_a_video_is_stored_and_deleted(server: Server, tmp_path: Path) -> None:
    path = sample_files.write_video(tmp_path / "clip.mp4")
    answer = upload(server, path)
    assert answer.status_code == 201, answer.text
    record = answer.json()
    assert (record["kind"], record["frames"], record["width"], record["height"]) == ("video", 20, 64, 48)
    again = server.client.post("/v1/files", content=path.read_bytes())
    assert again.json() == record
    where = f"/v1/files/{record['file_id']}"
    assert server.client.get(where).json() == record
    assert server.client.head(where).status_code == 200
    assert server.client.delete(where).status_code == 204
    for answer in (server.client.get(where), server.client.delete(where)):
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:segserve:problem:file_not_found"


def test_what_is_taken_of_a_file_is_part_of_its_id(server: Server, tmp_path: Path) -> None:
    data = sample_files.write_video(tmp_path / "clip.mp4").read_bytes()
    plain = server.client.post("/v1/files", content=data).json()
    assert (plain["contents"], plain["left_out"]) == ([], {"count": 0, "files": []})
    chosen = server.client.post("/v1/files?series=0&time=0", content=data)
    assert (chosen.status_code, chosen.json()["file_id"] != plain["file_id"]) == (201, True)
    for query in ("series=1", "series=", "time=1", "time=-1", "time=x"):
        answer = server.client.post(f"/v1/files?{query}", content=data)
        assert answer.status_code == 422
        assert answer.json()["field"] in ("series", "time", "query.series", "query.time")


def test_unusable_files_are_refused(server: Server, tmp_path: Path) -> None:
    answer = server.client.post("/v1/files", content=b"hello")
    assert (answer.status_code, answer.json()["field"]) == (415, "file")
    answer = server.client.post("/v1/files", files={"other": b"x"})
    assert (answer.status_code, answer.json()["field"]) == (422, "file")
    path = sample_files.write_zip(tmp_path / "x.zip", {"../x.png": b"x"})
    assert upload(server, path).status_code == 422


def test_a_batch_of_a_zip(server: Server, tmp_path: Path, nuclei: Path) -> None:
    entries = {"b/10.png": nuclei.read_bytes(), "b/9.png": b"broken", "b/8.png": sample_files.encode_frame(3)}
    file_id = upload(server, sample_files.write_zip(tmp_path / "x.zip", entries)).json()["file_id"]
    options = {"method": "ais"}
    job_id = accepted_job_id(submit(server, {"file_id": file_id}, "automatic", options=options))
    job = wait_until_ended(server, job_id)
    assert (job["state"], job["progress"]["done"], job["progress"]["failed"]) == ("succeeded", 3, 1)
    lines = read_results(server, job_id)
    assert [line["name"] for line in lines] == ["b/8.png", "b/9.png", "b/10.png"]
    assert lines[1]["image_id"] is None
    assert lines[1]["error"]["type"] == "urn:segserve:problem:unsupported_format"
    assert lines[2]["image_id"] == server.upload(nuclei), "an image as any other"
    direct = server.client.post(
        "/v1/automatic", json={"image_id": lines[2]["image_id"], "format": "rle", **options}
    ).json()
    assert lines[2]["objects"] == direct["objects"]
    data_set = server.client.get(f"/v1/jobs/{job_id}/results", params={"format": "coco"}).content
    (tmp_path / "coco.json").write_bytes(data_set)
    coco = COCO(str(tmp_path / "coco.json"))
    assert [image.get("failed", False) for image in coco.loadImgs(coco.getImgIds())] == [False, True, False]
    assert coco.loadImgs([2])[0]["error"] == lines[1]["error"]
    assert coco.getAnnIds(imgIds=[2]) == []
    assert len(coco.getAnnIds(imgIds=[3])) == len(direct["objects"])


def test_prompts_by_name(server: Server, tmp_path: Path, nuclei: Path) -> None:
    path = sample_files.write_zip(
        tmp_path / "x.zip", {"a.png": nuclei.read_bytes(), "b.png": sample_files.encode_frame(1)}
    )
    file_id = upload(server, path).json()["file_id"]
    prompts = {"a.png": [{"points": [[413, 190]]}]}
    lines = read_results(
        server, (job_id := accepted_job_id(submit(server, {"file_id": file_id}, "segment", prompts=prompts)))
    )
    wait_until_ended(server, job_id)
    lines = read_results(server, job_id)
    assert lines[0]["results"][0]["masks"]
    assert lines[1]["error"]["field"] == "prompts"


def test_a_batch_takes_no_video(server: Server, tmp_path: Path) -> None:
    file_id = upload(server, sample_files.write_video(tmp_path / "clip.mp4")).json()["file_id"]
    answer = submit(server, {"file_id": file_id})
    assert (answer.status_code, answer.json()["field"]) == (422, "input.file_id")
    answer = submit(server, {"file_id": "0" * 64})
    assert (answer.status_code, answer.json()["field"]) == (404, "file_id")


@pytest.mark.parametrize(
    "source",
    [{}, {"image_ids": []}, {"image_ids": ["a"], "file_id": "b"}, {"image_ids": ["a"], "folder": "x"}],
)
def test_an_input_has_one_source(server: Server, source: dict[str, object]) -> None:
    answer = submit(server, source)
    assert (answer.status_code, answer.json()["field"]) == (422, "input")


@pytest.fixture
def server_with_root(tmp_path: Path, nuclei: Path) -> Iterator[Server]:
    """A server that may read a folder."""
    plates = tmp_path / "plates" / "7"
    plates.mkdir(parents=True)
    for index in (2, 10, 1):
        (plates / f"{index}.png").write_bytes(sample_files.encode_frame(index))
    (plates / "notes.txt").write_text("x")
    (tmp_path / "secret.png").write_bytes(nuclei.read_bytes())
    server = Server(tmp_path / "data", batch_roots=json.dumps({"in": str(tmp_path / "plates")}))
    server.wait_ready()
    yield server
    assert server.stop() == 0


def test_a_batch_of_a_folder_of_the_operator(server_with_root: Server, server: Server) -> None:
    job_id = accepted_job_id(submit(server_with_root, {"root": "in", "folder": "7"}))
    job = wait_until_ended(server_with_root, job_id)
    assert (job["state"], job["progress"]["failed"]) == ("succeeded", 0)
    assert [line["name"] for line in read_results(server_with_root, job_id)] == [
        "7/1.png",
        "7/2.png",
        "7/10.png",
    ]
    for folder in ("..", "7/../..", "/etc", "..\\x", "nothing"):
        answer = submit(server_with_root, {"root": "in", "folder": folder})
        assert (answer.status_code, answer.json()["field"]) == (422, "input.folder")
    answer = submit(server_with_root, {"root": "other"})
    assert (answer.status_code, answer.json()["field"]) == (422, "input.root")
    answer = submit(server, {"root": "in"})
    assert (answer.status_code, answer.json()["field"]) == (403, "input.root")


def test_no_batch_takes_pictures_that_an_upload_may_not_have(tmp_path: Path) -> None:
    """SEGSERVE_MAX_IMAGE_MB holds for the entries of a zip and the files of a folder too."""
    plates = tmp_path / "plates"
    plates.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    large, small = sample_files.encode_png(noise), sample_files.encode_frame(1)
    assert len(large) > MB
    for name, content in {"large.png": large, "small.png": small}.items():
        (plates / name).write_bytes(content)
    server = Server(tmp_path / "data", max_image_mb="1", batch_roots=json.dumps({"in": str(plates)}))
    server.wait_ready()
    path = sample_files.write_zip(tmp_path / "x.zip", {"large.png": large, "small.png": small})
    for source in ({"file_id": upload(server, path).json()["file_id"]}, {"root": "in"}):
        job_id = accepted_job_id(submit(server, dict(source)))
        job = wait_until_ended(server, job_id)
        assert (job["state"], job["progress"]["failed"]) == ("succeeded", 1)
        lines = read_results(server, job_id)
        assert lines[0]["error"]["type"] == "urn:segserve:problem:too_large"
        assert "SEGSERVE_MAX_IMAGE_MB" in lines[0]["error"]["remedy"]
        assert "error" not in lines[1]
    assert server.stop() == 0


def test_a_truncated_upload_leaves_nothing(server: Server, tmp_path: Path) -> None:
    data = sample_files.write_video(tmp_path / "clip.mp4", 60).read_bytes()
    before = sorted((server.data_dir / "tmp").rglob("*"))
    answer = server.client.post("/v1/files", content=data[: len(data) // 3])
    assert answer.status_code == 422
    assert sorted((server.data_dir / "tmp").rglob("*")) == before
    rng = np.random.default_rng(0)
    answer = server.client.post("/v1/files", content=b"\x1aE\xdf\xa3" + rng.bytes(1000))
    assert (answer.status_code, answer.json()["field"]) == (422, "file")
