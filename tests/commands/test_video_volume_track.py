"""`segserve video`, `volume` and `track`: what is asked of the service, and what comes back as a file."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from segserve.cli import main
from segserve.commands.in_process_server import own_service
from segserve.commands.prompt_options import objects_of
from segserve.commands.server_client import Remote, format_of, whole
from segserve.commands.video_volume_track import body_of
from segserve.errors import BadInput, SegserveError
from segserve.jobs.engine.job import Kind
from segserve.wire.results.job_formats import JobFormat
from tests.files import made
from tests.serving import Server


def segserve(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "segserve.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


# What is asked.


def test_points_and_boxes_of_several_objects_on_several_frames() -> None:
    found = objects_of(
        ["120,80@5", "2:1.5,-2@0", "2:30,40@0", "121,81@5", "7,8@9"],
        ["1:9,9@5"],
        ["2:1,2,3,4@7", "0,0,9,9@9"],
        "frame",
    )
    assert found == [
        {"object_id": 1, "prompts": [
            {"frame": 5, "points": [[120, 80], [121, 81], [9, 9]], "labels": [1, 1, 0]},
            {"frame": 9, "points": [[7, 8]], "labels": [1], "box": [0, 0, 9, 9]},
        ]},
        {"object_id": 2, "prompts": [
            {"frame": 0, "points": [[1.5, -2], [30, 40]], "labels": [1, 1]},
            {"frame": 7, "box": [1, 2, 3, 4]},
        ]},
    ]  # fmt: skip
    assert objects_of(["3:1,2@4"], [], [], "slice")[0]["prompts"][0]["slice"] == 4


def test_what_is_not_said_is_left_to_the_service() -> None:
    assert body_of(Kind.VIDEO, "FILE", None, {"objects": [], "direction": "both", "engine": None}) == {
        "kind": "video",
        "model": None,
        "priority": "interactive",
        "input": {"file_id": "FILE"},
        "params": {"objects": [], "direction": "both"},
    }


@pytest.mark.parametrize(
    ("points", "negatives", "boxes", "option"),
    [
        (["120,80"], [], [], "--point"),
        (["120,80@"], [], [], "--point"),
        (["0:120,80@1"], [], [], "--point"),
        (["120@1"], [], [], "--point"),
        ([], ["a,b@1"], [], "--negative"),
        ([], [], ["1,2,3@1"], "--box"),
        ([], [], ["9,9,1,1@1"], "--box"),
        ([], [], ["1,1,2,2@1", "1,1,3,3@1"], "--box"),
    ],
)
def test_marks_that_are_none_name_their_option(
    points: list[str], negatives: list[str], boxes: list[str], option: str
) -> None:
    with pytest.raises(BadInput) as met:
        objects_of(points, negatives, boxes, "frame")
    assert met.value.field == option
    assert met.value.remedy


def test_the_suffix_says_what_to_write(tmp_path: Path) -> None:
    for kind, suffix, expected in [
        (Kind.VIDEO, ".mp4", JobFormat.MP4),
        (Kind.VIDEO, ".zip", JobFormat.PNG),
        (Kind.VIDEO, ".PNG", JobFormat.SHEET),
        (Kind.VOLUME, ".nii.gz", JobFormat.NIFTI),
        (Kind.VOLUME, ".tif", JobFormat.TIFF_STACK),
        (Kind.TRACKING, ".json", JobFormat.COCO),
    ]:
        assert format_of(tmp_path / f"out{suffix}", kind) is expected
    for kind, name in [(Kind.VIDEO, "out.nii.gz"), (Kind.VOLUME, "out.mp4"), (Kind.VIDEO, "out")]:
        with pytest.raises(BadInput, match="does not say what to write"):
            format_of(tmp_path / name, kind)
    with pytest.raises(BadInput, match="no folder"):
        format_of(tmp_path / "nowhere" / "out.mp4", Kind.VIDEO)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["video", "-o", "out.mp4"], "--point: There is nothing to follow"),
        (["video", "-o", "out.mp4", "--point", "1,2"], "--point: '1,2' is not x,y@frame"),
        (["video", "-o", "out.nrrd", "--point", "1,2@3"], "--output: 'out.nrrd' does not say what to write"),
        (["volume", "-o", "out.nrrd", "--automatic", "--point", "1,2@3"], "--automatic: It takes no points"),
        (["volume", "-o", "out.nrrd", "--point", "1,2@3", "--window", "9,1"], "--window: '9,1' is not low,high"),
        (["track", "-o", "out.mp4", "--link", "cutoff"], "--link: 'cutoff' is not name=value"),
        (["track", "-o", "out.mp4", "--server", "http://127.0.0.1:9"], "cannot be reached"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_that_names_the_option(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(b"not looked at")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segserve", arguments[0], str(clip), *arguments[1:]])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [clip]


# What the service is to the commands.


@pytest.fixture
def remote(server: Server) -> Remote:
    return Remote(server.client)


def embedding(image_ids: list[str]) -> dict[str, Any]:
    return {
        "kind": "batch",
        "input": {"image_ids": image_ids},
        "params": {"operation": "automatic", "options": {"method": "ais"}},
    }


def test_a_file_goes_up_as_it_is(tmp_path: Path, remote: Remote, server: Server) -> None:
    file_id = remote.upload(made.video(tmp_path / "clip.mp4", 20))["file_id"]
    assert server.client.get(f"/v1/files/{file_id}").json()["frames"] == 20
    (tmp_path / "none").write_bytes(b"nothing that is read")
    with pytest.raises(BadInput, match="in no format that is read"):
        remote.upload(tmp_path / "none")["file_id"]


def test_a_job_is_followed_and_its_results_come_down(
    tmp_path: Path, remote: Remote, server: Server, nuclei: Path
) -> None:
    image_id, seen = server.upload(nuclei), list[tuple[int, int | None]]()
    job = remote.work(embedding([image_id, image_id]), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (2, 2)
    with whole(tmp_path / "found.json") as out:
        remote.results(job, JobFormat.COCO, out)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    assert len(json.loads((tmp_path / "found.json").read_text())["images"]) == 2
    with pytest.raises(BadInput, match="not to be had as mp4"), whole(tmp_path / "clip.mp4") as out:
        remote.results(job, JobFormat.MP4, out)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"], "nothing half-written"


def test_who_stops_waiting_stops_the_job(remote: Remote, server: Server, nuclei: Path) -> None:
    def interrupted(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remote.work(embedding([server.upload(nuclei)] * 500), interrupted)
    assert server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled"


def test_a_service_of_ones_own_ends_with_its_use(tmp_path: Path) -> None:
    with own_service(tmp_path) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")


def test_a_service_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSERVE_PRELOAD", "starter")
    with pytest.raises(SegserveError, match="preload"), own_service(tmp_path):
        pass


# All of it.


@pytest.fixture
def following(server: Server) -> Server:
    """A service that knows such jobs."""
    answer = server.client.post("/v1/jobs", json={"kind": "video"})
    if answer.json()["field"] == "kind":
        pytest.skip("this service has no jobs on videos")
    return server


def test_a_clip_is_followed(tmp_path: Path, following: Server) -> None:
    clip, output = made.video(tmp_path / "clip.mp4", 12), tmp_path / "out.zip"
    done = segserve(
        "video", clip, "--point", "8,20@0", "--engine", "projection", "-o", output, "--server", following.url
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(output) as archive:
        first = np.asarray(Image.open(io.BytesIO(archive.read("frame_000000.png"))))
    assert first.shape == (48, 64)
    assert first[20, 8] == 1


def test_a_clip_to_look_at_with_no_server(tmp_path: Path, following: Server) -> None:
    clip, output = made.video(tmp_path / "clip.mp4", 12), tmp_path / "out.mp4"
    done = segserve(
        "video",
        clip,
        "--box",
        "0,10,16,30@0",
        "--engine",
        "projection",
        "-o",
        output,
        "--data-dir",
        tmp_path / "d",
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(output)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


def test_a_volume_becomes_labels_in_its_place(tmp_path: Path, following: Server) -> None:
    source = sitk.GetImageFromArray(np.stack([made.frame(at)[..., 0] for at in range(6)]).astype(np.int16))
    source.SetSpacing((0.5, 0.75, 2.0))
    source.SetOrigin((-10.0, 5.0, 100.0))
    sitk.WriteImage(source, str(tmp_path / "scan.nrrd"))
    output = tmp_path / "labels.nii.gz"
    marks = ["--box", "3:4,10,20,30@2", "--engine", "projection", "--window", "0,255"]
    done = segserve("volume", tmp_path / "scan.nrrd", *marks, "-o", output, "--server", following.url)
    assert done.returncode == 0, done.stderr
    found = sitk.ReadImage(str(output))
    assert found.GetSize() == source.GetSize()
    assert found.GetSpacing() == pytest.approx(source.GetSpacing())
    assert found.GetOrigin() == pytest.approx(source.GetOrigin())
    labels = sitk.GetArrayFromImage(found)
    assert set(np.unique(labels)) == {0, 3}
    assert labels[2, 20, 12] == 3


def test_tracks(tmp_path: Path, following: Server) -> None:
    clip, output = made.video(tmp_path / "clip.mp4", 6), tmp_path / "out.ndjson"
    done = segserve("track", clip, "-o", output, "--server", following.url)
    assert done.returncode == 0, done.stderr
    assert {json.loads(line)["frame"] for line in output.read_text().splitlines()} == set(range(6))
