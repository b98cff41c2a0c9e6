"""POST /v1/files/{file_id}/labels: labels of other programs on the grid of a stored volume."""

from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pydicom
import pytest
from pycocotools import mask as coco

from segserve.errors import TooLarge
from segserve.wire.operations import read_labels
from tests.files.dicom.sample_dicom import COLUMNS, ROWS, SAGITTAL, make_series, write_zip
from tests.files.dicom.sample_segmentation import write_segmentation
from tests.serving import Server

SIZE = (7, 6, 5)  # x, y, z
AFFINE = np.array([[0.5, 0, 0, 10], [0, 0.5, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1.0]])
SLICES = 6


def draw_labels() -> np.ndarray:
    """[x, y, z] as NIfTI has it: 3 on slices 1 and 2, 300 on slice 2."""
    labels = np.zeros(SIZE, np.int16)
    labels[1:4, 1:3, 1:3] = 3
    labels[4:7, 3:6, 2] = 300
    return labels


def save(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def upload(server: Server, data: bytes) -> dict[str, Any]:
    answer = server.client.post("/v1/files", content=data)
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


def read(server: Server, file_id: str, data: bytes, **query: int) -> httpx.Response:
    return server.client.post(f"/v1/files/{file_id}/labels", content=data, params=query)


@pytest.fixture(scope="module")
def scan(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    values = np.random.default_rng(0).integers(0, 900, SIZE).astype(np.int16)
    return upload(server, save(tmp_path_factory.mktemp("scan") / "scan.nii.gz", values).read_bytes())


def rebuild(answer: httpx.Response, count: int) -> tuple[np.ndarray, dict[int, str | None]]:
    """Return the answer's labels [slices, H, W], and the names. Boxes and areas must be those of the masks."""
    assert answer.status_code == 200, answer.text
    labels = answer.json()
    volume, names = np.zeros((count, labels["height"], labels["width"]), int), dict[int, str | None]()
    for one in labels["slices"]:
        for item in one["objects"]:
            mask = coco.decode(item["mask"]).astype(bool)
            assert not volume[one["slice"]][mask].any()
            volume[one["slice"]][mask] = item["object_id"]
            names[item["object_id"]] = item["name"]
            y, x = np.nonzero(mask)
            assert item["box"] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            assert item["area"] == len(x)
    return volume, names


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_of_a_nifti_along_each_axis(
    server: Server, scan: dict[str, Any], tmp_path: Path, axis: int
) -> None:
    data = save(tmp_path / "labels.nii.gz", draw_labels()).read_bytes()
    expected = np.moveaxis(draw_labels().T, axis, 0)
    volume, names = rebuild(read(server, scan["file_id"], data, axis=axis), len(expected))
    assert np.array_equal(volume, expected)
    assert names == {3: None, 300: None}
    assert server.client.post(f"/v1/files/{scan['file_id']}/labels", files={"file": data}).status_code == 200


def test_axes_that_run_otherwise_are_turned_back(
    server: Server, scan: dict[str, Any], tmp_path: Path
) -> None:
    turned = np.flip(draw_labels().transpose(2, 0, 1), 0)
    step = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, SIZE[2] - 1], [0, 0, 0, 1.0]])
    data = save(tmp_path / "labels.nii", turned, AFFINE @ step).read_bytes()
    volume, _ = rebuild(read(server, scan["file_id"], data), SIZE[2])
    assert np.array_equal(volume, draw_labels().T)


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code in (400, 404, 415, 422), answer.text
    told: dict[str, Any] = answer.json()
    assert told["remedy"]
    return told


def test_what_is_no_label_volume_of_the_scan_is_refused(
    server: Server, scan: dict[str, Any], tmp_path: Path, nuclei: Path
) -> None:
    other = save(tmp_path / "other.nii", draw_labels()[:-1]).read_bytes()
    assert "not on the grid" in problem(read(server, scan["file_id"], other))["detail"]
    values = save(tmp_path / "values.nii", draw_labels().astype(np.float32) + 0.5).read_bytes()
    assert "whole numbers" in problem(read(server, scan["file_id"], values))["detail"]
    assert problem(read(server, scan["file_id"], b"hello"))["status"] == 415
    labels = save(tmp_path / "labels.nii", draw_labels()).read_bytes()
    assert problem(read(server, "nope", labels))["status"] == 404
    stack = upload(server, (nuclei.parent / "cells.tif").read_bytes())
    told = problem(read(server, stack["file_id"], labels))
    assert (told["status"], told["field"]) == (422, "file_id")


def make_masks(overlap: bool) -> np.ndarray:
    """[slices, rows, columns, segments]: the first on slices 1 and 4 and not between, the second on 2 and 4."""
    masks = np.zeros((SLICES, ROWS, COLUMNS, 2), bool)
    for index in (1, 4):
        masks[index, 2:6, 3:9, 0] = True
    masks[2, 5:9, 7:12, 1] = True
    masks[4, 7:9, 7:12, 1] = True
    if overlap:
        masks[4, 3:9, 7:12, 1] = True
    return masks


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("orientation", [None, SAGITTAL])
def test_segments_of_a_dicom_seg(server: Server, tmp_path: Path, kind: str, orientation: Any) -> None:
    series = make_series(SLICES, **({} if orientation is None else {"orientation": orientation}))
    scan = upload(server, write_zip(tmp_path / "scan.zip", series).read_bytes())
    masks = make_masks(overlap=False)
    data = write_segmentation(tmp_path / "seg.dcm", series, masks, ["Liver", "Spleen"], kind).read_bytes()
    volume, names = rebuild(read(server, scan["file_id"], data), SLICES)
    assert np.array_equal(volume, masks[..., 0] + 2 * masks[..., 1])
    assert names == {1: "Liver", 2: "Spleen"}
    along, _ = rebuild(read(server, scan["file_id"], data, axis=2), COLUMNS)
    assert np.array_equal(along, np.moveaxis(volume, 2, 0))


def test_segments_may_overlap_and_must_lie_on_the_scan(server: Server, tmp_path: Path) -> None:
    series = make_series(SLICES)
    scan = upload(server, write_zip(tmp_path / "scan.zip", series).read_bytes())
    masks = make_masks(overlap=True)
    data = write_segmentation(tmp_path / "seg.dcm", series, masks, ["a", "b"]).read_bytes()
    answer = read(server, scan["file_id"], data).json()
    areas = {
        (one["slice"], item["object_id"]): item["area"] for one in answer["slices"] for item in one["objects"]
    }
    expected = masks.sum(axis=(1, 2))
    assert areas == {
        (int(n), int(k) + 1): int(expected[n, k]) for n, k in zip(*np.nonzero(expected), strict=True)
    }

    moved = pydicom.dcmread(tmp_path / "seg.dcm")
    position = moved.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient = [float(value) + 0.3 for value in position.ImagePositionPatient]
    moved.save_as(tmp_path / "moved.dcm")
    told = problem(read(server, scan["file_id"], (tmp_path / "moved.dcm").read_bytes()))
    assert "between the voxels" in told["detail"]
    assert "no segmentation" in problem(read(server, scan["file_id"], series["IM00"]))["detail"]
    cut = data[: len(data) - 10]
    assert problem(read(server, scan["file_id"], cut))["status"] == 422


def test_labels_that_are_scattered_over_a_slice_are_refused_before_they_take_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = np.random.default_rng(0).integers(0, 50, (64, 64)).astype(np.uint16)
    expected = np.unique(plane[plane > 0]).tolist()
    assert [label for label, _ in read_labels.split_labels(plane)] == expected
    monkeypatch.setattr(read_labels, "MAX_BOX_PIXELS", 49 * 63 * 63)
    made = []
    monkeypatch.setattr(read_labels.label_map, "crop_label", lambda *args: made.append(args))
    with pytest.raises(TooLarge, match="scattered"):
        list(read_labels.split_labels(np.tile(plane, (2, 2))))
    assert not made
