"""Objects followed through volumes and videos, over REST, by the service's own worker."""

import io
import zipfile
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pycocotools import mask as coco

from segserve.masks.geometry import iou
from tests import moving_cells
from tests.serving import Server
from tests.wire.responses import accepted_job_id, read_results, wait_until_ended

VALUES, LABELS = moving_cells.draw_volume()
MIDDLE = 10
FRAME_RANGES = {label: (cell.begin, cell.end) for label, cell in enumerate(moving_cells.CELLS, 1)}


def upload(server: Server, content: bytes) -> str:
    answer = server.client.post("/v1/files", content=content)
    assert answer.status_code == 201, answer.text
    file_id: str = answer.json()["file_id"]
    return file_id


def encode_nifti(values: np.ndarray, folder: Path) -> bytes:
    path = folder / "volume.nii.gz"
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((0.5, 0.5, 2.0))
    sitk.WriteImage(image, str(path))
    return path.read_bytes()


def encode_frames(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for index, frame in enumerate(values):
            png = io.BytesIO()
            Image.fromarray(frame).save(png, "PNG")
            archive.writestr(f"{index:03d}.png", png.getvalue())
    return content.getvalue()


def click(label: int, at: int, word: str) -> dict[str, Any]:
    ys, xs = np.nonzero(LABELS[at] == label)
    return {word: at, "points": [[float(xs.mean()), float(ys.mean())]]}


def submit(server: Server, kind: str, file_id: str, **params: Any) -> httpx.Response:
    return server.client.post(
        "/v1/jobs", json={"kind": kind, "input": {"file_id": file_id}, "params": params}
    )


def masks_by_object(lines: list[dict[str, Any]], word: str) -> dict[int, dict[int, np.ndarray]]:
    """The masks [H, W] of each object, by frame or slice."""
    result: dict[int, dict[int, np.ndarray]] = {}
    for line in lines:
        for item in line["objects"]:
            result.setdefault(item["object_id"], {})[line[word]] = coco.decode(item["mask"]).astype(bool)
    return result


@pytest.fixture(scope="module")
def volume_id(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    return upload(server, encode_nifti(VALUES, tmp_path_factory.mktemp("volume")))


@pytest.fixture(scope="module")
def frames_id(server: Server) -> str:
    return upload(server, encode_frames(VALUES))


def test_cells_of_a_volume_are_followed_until_they_end(server: Server, volume_id: str) -> None:
    objects = [{"object_id": label, "prompts": [click(label, MIDDLE, "slice")]} for label in FRAME_RANGES]
    job = wait_until_ended(server, accepted_job_id(submit(server, "volume", volume_id, objects=objects)))
    assert (job["state"], job["progress"]["done"]) == ("succeeded", len(VALUES)), job
    lines = read_results(server, job["job_id"])
    assert [line["slice"] for line in lines] == [*range(MIDDLE, 24), *range(MIDDLE - 1, -1, -1)]
    result = masks_by_object(lines, "slice")
    ends = [end for line in lines for end in line.get("ends", [])]
    assert [(end["object_id"], end["slice"], end["last_slice"]) for end in ends] == [
        (1, 19, 18), (3, 5, 6), (1, 1, 2),
    ]  # fmt: skip
    assert job["object_ends"] == {"count": 3, "latest": ends}
    for label, frame_range in FRAME_RANGES.items():
        assert (min(result[label]), max(result[label])) == frame_range
        assert min(iou(mask, LABELS[at] == label) for at, mask in result[label].items()) >= 0.8


def test_a_volume_is_cut_along_another_axis(server: Server, volume_id: str) -> None:
    at = 60
    [x], [z] = (np.median(item, keepdims=True) for item in np.nonzero(LABELS[:, at] == 1)[::-1])
    prompt = {"slice": at, "points": [[float(x), float(z)]]}
    answer = submit(
        server,
        "volume",
        volume_id,
        objects=[{"object_id": 4, "prompts": [prompt]}],
        axis=1,
        direction="forward",
    )
    job = wait_until_ended(server, accepted_job_id(answer))
    assert job["progress"]["total"] == VALUES.shape[1] - at
    first = read_results(server, job["job_id"])[0]
    assert (first["slice"], first["height"], first["width"]) == (at, VALUES.shape[0], VALUES.shape[2])
    assert iou(masks_by_object([first], "slice")[4][at], LABELS[:, at] == 1) > 0.5


@pytest.mark.parametrize(("slices", "annotated"), [("first", 1), ("centre", 2), ("largest", 3)])
def test_prompts_are_made_from_a_reference(
    server: Server, volume_id: str, tmp_path: Path, slices: str, annotated: int
) -> None:
    reference = {"file_id": upload(server, encode_nifti(LABELS, tmp_path)), "labels": [1], "slices": slices}
    with_prompts = {**reference, "annotated": annotated, "prompt": "box"}
    job = wait_until_ended(
        server, accepted_job_id(submit(server, "volume", volume_id, reference=with_prompts))
    )
    result = masks_by_object(read_results(server, job["job_id"]), "slice")
    assert result.keys() == {1}
    assert set(result[1]) == set(range(FRAME_RANGES[1][0], FRAME_RANGES[1][1] + 1))


def encode_labels(affine: np.ndarray, labels: np.ndarray, folder: Path) -> bytes:
    """labels: [Z, Y, X]. affine: from voxel (x, y, z) to millimetres as NIfTI counts them."""
    path = folder / "labels.nii.gz"
    nib.Nifti1Image(labels.T, affine).to_filename(path)
    return path.read_bytes()


def test_a_reference_may_be_stored_with_other_axes(server: Server, volume_id: str, tmp_path: Path) -> None:
    depth, _, width = LABELS.shape
    # The volume's own axes run to the left and back; here x and z run the other way, and z is the first axis.
    affine = np.array(
        [[0, 0, 0.5, -0.5 * (width - 1)], [0, -0.5, 0, 0], [-2, 0, 0, 2 * (depth - 1)], [0, 0, 0, 1]]
    )
    labels = LABELS[::-1, :, ::-1].transpose(2, 1, 0)
    prompts = []
    for content in (encode_nifti(LABELS, tmp_path), encode_labels(affine, labels, tmp_path)):
        reference = {"file_id": upload(server, content), "labels": [1], "prompt": "box"}
        job = wait_until_ended(
            server, accepted_job_id(submit(server, "volume", volume_id, reference=reference))
        )
        prompts.append(read_results(server, job["job_id"]))
    assert prompts[0] == prompts[1]
    affine[0, 3] += 7.5
    reference = {"file_id": upload(server, encode_labels(affine, labels, tmp_path))}
    answer = submit(server, "volume", volume_id, reference=reference)
    assert (answer.status_code, answer.json()["field"]) == (422, "params.reference.file_id"), answer.text
    assert "-7.5, 0, 0 mm" in answer.text


@pytest.mark.parametrize("values", [LABELS + 0.5, np.where(LABELS, 70_000, 0), LABELS.astype(np.int16) - 1])
def test_a_reference_that_holds_no_labels(
    server: Server, volume_id: str, tmp_path: Path, values: np.ndarray
) -> None:
    reference = {"file_id": upload(server, encode_nifti(values.astype(np.float32), tmp_path))}
    answer = submit(server, "volume", volume_id, reference=reference)
    assert (answer.status_code, answer.json()["field"]) == (422, "params.reference.file_id"), answer.text


def test_prompts_on_one_frame_are_used_together(server: Server, frames_id: str) -> None:
    """A box around two cells, and a negative point on one of them."""
    box = {"frame": 10, "box": [40.0, 30.0, 175.0, 160.0]}
    ys, xs = np.nonzero(LABELS[10] == 2)
    not_this = {"frame": 10, "points": [[float(xs.mean()), float(ys.mean())]], "labels": [0]}
    on_it = click(1, 10, "frame")
    objects = [{"object_id": 5, "prompts": [box, not_this, on_it]}]
    job = wait_until_ended(
        server, accepted_job_id(submit(server, "video", frames_id, objects=objects, direction="forward"))
    )
    first = masks_by_object(read_results(server, job["job_id"])[:1], "frame")[5][10]
    assert iou(first, LABELS[10] == 1) > 0.8


def test_a_stack_of_frames_is_a_video(server: Server, frames_id: str) -> None:
    objects = [{"object_id": 9, "prompts": [click(2, 0, "frame")]}]
    answer = submit(server, "video", frames_id, objects=objects, direction="forward")
    job = wait_until_ended(server, accepted_job_id(answer))
    result = masks_by_object(read_results(server, job["job_id"]), "frame")[9]
    assert set(result) == set(range(24))
    assert min(iou(mask, LABELS[at] == 2) for at, mask in result.items()) >= 0.8


def test_added_prompts_change_only_results_that_depend_on_them(server: Server, frames_id: str) -> None:
    objects = [{"object_id": 2, "name": "kidney", "prompts": [click(2, 0, "frame")]}]
    job = wait_until_ended(
        server, accepted_job_id(submit(server, "video", frames_id, objects=objects, direction="forward"))
    )
    before = read_results(server, job["job_id"])
    more = {"objects": [{"object_id": 3, "prompts": [click(3, 17, "frame")]}]}
    answer = server.client.post(f"/v1/jobs/{job['job_id']}/prompts", json=more)
    assert answer.status_code == 202, answer.text
    assert answer.json()["progress"]["done"] == 16, "two chunks of eight stay"
    assert wait_until_ended(server, job["job_id"])["state"] == "succeeded"
    after = read_results(server, job["job_id"])
    assert after[:17] == before[:17]
    result = masks_by_object(after, "frame")
    assert set(result[3]) == set(range(17, 24))
    assert set(result[2]) == set(range(24))
    answer = server.client.get(f"/v1/jobs/{job['job_id']}/results?format=coco")
    names = {
        (item["attributes"]["object_id"], item["attributes"].get("name"))
        for item in answer.json()["annotations"]
    }
    assert names == {(2, "kidney"), (3, None)}


def object_prompts(object_id: int = 1, **prompt: Any) -> dict[str, Any]:
    return {"object_id": object_id, "prompts": [{"frame": 0} | prompt]}


AT = "params.objects.0.prompts.0"
POINTS = {"points": [[5, 5]]}


@pytest.mark.parametrize(
    ("params", "field", "said"),
    [
        ({"objects": [object_prompts(**POINTS, frame=10_000)]}, f"{AT}.frame", "the file has 24"),
        ({"objects": [object_prompts(points=[[500, 5]])]}, f"{AT}.points.0", "outside"),
        ({"objects": [object_prompts()]}, AT, "empty"),
        ({"objects": [object_prompts(0, **POINTS)]}, "params.objects.0.object_id", ""),
        ({"objects": [object_prompts(**POINTS) | {"name": "a\\b"}]}, "params.objects.0.name", ""),
        ({"objects": []}, "params.objects", ""),
        ({"objects": [object_prompts(**POINTS)] * 2}, "params.objects.1.object_id", "twice"),
        ({"objects": [object_prompts(**POINTS)], "engine": "memory"}, "params.engine", "no memory"),
        ({"objects": [object_prompts(**POINTS, slice=3)]}, AT, "frame, or slice"),
        ({"objects": [object_prompts(**POINTS, labels=[0])]}, "params.objects", "only negative"),
    ],
)
def test_invalid_prompts_are_refused(
    server: Server, frames_id: str, params: dict[str, Any], field: str, said: str
) -> None:
    answer = submit(server, "video", frames_id, **params)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["field"] == field
    assert said in problem["detail"]


def test_files_of_another_kind_are_refused(server: Server, frames_id: str, volume_id: str) -> None:
    objects = [{"object_id": 1, "prompts": [{"frame": 0, "points": [[5, 5]]}]}]
    assert submit(server, "video", volume_id, objects=objects).json()["field"] == "input.file_id"
    answer = submit(server, "volume", frames_id, objects=objects, axis=2)
    assert answer.json()["field"] == "params.axis"
    answer = submit(server, "volume", frames_id, objects=objects, window=[0, 9])
    assert answer.json()["field"] == "params.window"
    assert submit(server, "video", "0" * 64, objects=objects).status_code == 404


def test_prompts_are_refused_by_jobs_that_take_none(server: Server) -> None:
    body = {"kind": "batch", "input": {"image_ids": ["0" * 64]}, "params": {"operation": "embed"}}
    job = server.client.post("/v1/jobs", json=body).json()
    more = {"objects": [{"object_id": 3, "prompts": [{"frame": 0, "points": [[5, 5]]}]}]}
    answer = server.client.post(f"/v1/jobs/{job['job_id']}/prompts", json=more)
    assert answer.status_code == 422
    assert "takes no prompts" in answer.json()["detail"]


def test_all_cells_of_a_volume_without_prompts(server: Server, volume_id: str) -> None:
    job = wait_until_ended(
        server, accepted_job_id(submit(server, "volume", volume_id, engine="automatic", min_z_extent=3))
    )
    assert (job["state"], job["progress"]["done"]) == ("succeeded", 2 * len(VALUES)), job
    lines = read_results(server, job["job_id"])
    assert {line["scale"] for line in lines} == {2}, "small slices are not enlarged to the whole input"
    result = masks_by_object(lines, "slice")
    for label, (begin, end) in FRAME_RANGES.items():
        middle = (begin + end) // 2
        [same] = [
            item
            for item in result.values()
            if middle in item and iou(item[middle], LABELS[middle] == label) > 0.8
        ]
        assert set(range(begin + 1, end)) <= set(same) <= set(range(begin, end + 1))


def test_cells_are_tracked(server: Server, frames_id: str) -> None:
    job = wait_until_ended(
        server, accepted_job_id(submit(server, "tracking", frames_id, params={"min_size": 60}))
    )
    assert job["state"] == "succeeded", job
    lines = read_results(server, job["job_id"])
    assert {item["parent"] for line in lines for item in line["objects"]} == {None}
    result = masks_by_object(lines, "frame")
    for label, (begin, end) in FRAME_RANGES.items():
        middle = (begin + end) // 2
        [same] = [
            item
            for item in result.values()
            if middle in item and iou(item[middle], LABELS[middle] == label) > 0.8
        ]
        assert set(range(begin + 1, end)) <= set(same) <= set(range(begin, end + 1))
