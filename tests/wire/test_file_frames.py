"""GET /v1/files/{file_id}/frames/{frame}, and POST /v1/images of a frame: files to look at and to click on."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest
from PIL import Image

from segserve.files.frame_reader import MAX_OPEN_FILES
from tests.files import sample_files
from tests.serving import Server
from tests.wire.responses import assert_refused

SHAPE = (40, 30, 20)  # x, y, z


@pytest.fixture(scope="module")
def voxels() -> np.ndarray:
    """[x, y, z]: every axis has another ramp, and a block that no axis has in its middle."""
    x, y, z = np.indices(SHAPE)
    values = 100 + 20 * x + 3 * y + z
    values[5:15, 20:28, 2:6] += 900
    return values.astype(np.int16)


@pytest.fixture(scope="module")
def volume(server: Server, voxels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("volume") / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 2.0, 1.0])), path)
    return upload(server, path.read_bytes())


@pytest.fixture(scope="module")
def video(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return upload(server, sample_files.write_video(tmp_path_factory.mktemp("v") / "clip.mp4").read_bytes())


def upload(server: Server, data: bytes) -> dict[str, Any]:
    answer = server.client.post("/v1/files", content=data)
    assert answer.status_code == 201, answer.text
    record: dict[str, Any] = answer.json()
    return record


def get_frame(server: Server, file_id: str, frame: int, **query: object) -> httpx.Response:
    where = f"/v1/files/{file_id}/frames/{frame}"
    params = {name: str(value) for name, value in query.items()}
    return server.client.get(where, params=params, headers={"accept": "image/png"})


def decode(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def test_a_volume_has_three_axes(server: Server, volume: dict[str, Any]) -> None:
    nx, ny, nz = SHAPE
    assert volume["axes"] == [
        {"axis": 0, "frames": nz, "width": nx, "height": ny},
        {"axis": 1, "frames": ny, "width": nx, "height": nz},
        {"axis": 2, "frames": nx, "width": ny, "height": nz},
    ]
    assert volume["spacing"] == [2.0, 0.5, 0.5]
    assert server.client.get(f"/v1/files/{volume['file_id']}").json() == volume


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_those_of_the_volume(
    server: Server, volume: dict[str, Any], voxels: np.ndarray, axis: int
) -> None:
    stored = np.moveaxis(voxels.transpose(2, 1, 0), axis, 0).astype(float)
    for index in (0, 4, len(stored) - 1):
        shown = decode(get_frame(server, volume["file_id"], index, axis=axis, window="100,1000"))
        expected = np.clip((stored[index] - 100) / 900, 0, 1) * 255
        assert shown.shape[:2] == expected.shape
        assert np.abs(shown[..., 0] - expected).max() <= 1


def test_all_slices_share_one_window(server: Server, volume: dict[str, Any], voxels: np.ndarray) -> None:
    """Without a window all slices are stretched alike: equal values have equal brightness on all axes."""
    front = decode(get_frame(server, volume["file_id"], 3))[..., 0]
    side = decode(get_frame(server, volume["file_id"], 10, axis=2))[..., 0]
    assert np.array_equal(front[:, 10], side[3])


def test_frames_of_a_video(server: Server, video: dict[str, Any]) -> None:
    assert video["axes"] == [{"axis": 0, "frames": 20, "width": 64, "height": 48}]
    assert video["fps"] == 10
    for index in (19, 0, 7, 8):
        shown = decode(get_frame(server, video["file_id"], index))
        assert np.abs(shown.astype(int) - sample_files.draw_frame(index)).mean() < 4


def test_a_frame_can_be_reduced(server: Server, video: dict[str, Any]) -> None:
    assert decode(get_frame(server, video["file_id"], 3, max=32)).shape == (24, 32, 3)
    assert decode(get_frame(server, video["file_id"], 3, max=500)).shape == (48, 64, 3)


def test_a_frame_is_an_image_to_click_on(server: Server, volume: dict[str, Any]) -> None:
    body = {"file_id": volume["file_id"], "frame": 4, "axis": 2}
    answer = server.client.post("/v1/images", json=body)
    assert answer.status_code == 201, answer.text
    image = answer.json()
    assert (image["width"], image["height"]) == (30, 20)
    assert server.client.post("/v1/images", json=body).json() == image
    whole = server.client.get(f"/v1/images/{image['image_id']}/tiles/0/0/0", headers={"accept": "image/png"})
    assert np.array_equal(decode(whole), decode(get_frame(server, volume["file_id"], 4, axis=2)))
    assert server.click(image["image_id"], 10, 10).status_code == 200


def test_a_frame_is_sent_once(server: Server, video: dict[str, Any]) -> None:
    first = get_frame(server, video["file_id"], 3)
    where = f"/v1/files/{video['file_id']}/frames/3"
    headers = {"accept": "image/png", "if-none-match": first.headers["etag"]}
    again = server.client.get(where, headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    other = server.client.get(where, headers={**headers, "accept": "image/jpeg"})
    assert (other.status_code, other.headers["content-type"]) == (200, "image/jpeg")


def test_more_files_than_stay_open(server: Server) -> None:
    """Frames of many files at once: each waits for a place, and is of its own file."""
    count = 2 * MAX_OPEN_FILES
    files = [
        upload(server, sample_files.encode_gif(*[(40 + number, 30)] * 3))["file_id"]
        for number in range(count)
    ]
    places = [(number, frame) for frame in range(3) for number in range(count)]
    with ThreadPoolExecutor(8) as pool:
        shown = list(pool.map(lambda at: decode(get_frame(server, files[at[0]], at[1])), places))
    assert [picture.shape[1] for picture in shown] == [40 + number for number, _ in places]


def test_refusals(server: Server, volume: dict[str, Any], video: dict[str, Any], tmp_path: Path) -> None:
    assert_refused(get_frame(server, "0" * 64, 0), 404, "file_not_found", "file_id")
    assert_refused(get_frame(server, video["file_id"], 20), 422, "bad_input", "frame")
    assert_refused(get_frame(server, video["file_id"], 0, axis=1), 422, "bad_input", "axis")
    assert_refused(get_frame(server, video["file_id"], 0, window="0,1"), 422, "bad_input", "window")
    assert_refused(get_frame(server, volume["file_id"], 40, axis=1), 422, "bad_input", "frame")
    for window in ("5,5", "x", "1", "nan,1"):
        assert_refused(get_frame(server, volume["file_id"], 0, window=window), 422, "bad_input", "window")
    pictures = {"a.png": sample_files.encode_frame(1), "b.png": sample_files.encode_frame(1, 20, 20)}
    mixed = upload(server, sample_files.write_zip(tmp_path / "x.zip", pictures).read_bytes())
    assert mixed["axes"] == []
    assert_refused(get_frame(server, mixed["file_id"], 0), 422, "bad_input", "file_id")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"file_id": "0" * 64},
        {"frame": 1},
        {"url": "https://example.org/a.png", "file_id": "0" * 64, "frame": 1},
        {"file_id": "0" * 64, "frame": 1, "window": [3, 2]},
        {"file_id": "0" * 64, "frame": -1},
    ],
)
def test_a_body_names_one_source(server: Server, body: dict[str, Any]) -> None:
    assert_refused(server.client.post("/v1/images", json=body), 422, "bad_input")


def test_a_frame_that_is_not_there_is_no_image(server: Server, video: dict[str, Any]) -> None:
    answer = server.client.post("/v1/images", json={"file_id": video["file_id"], "frame": 99})
    assert_refused(answer, 422, "bad_input", "frame")
    answer = server.client.post("/v1/images", json={"file_id": "0" * 64, "frame": 0})
    assert_refused(answer, 404, "file_not_found", "file_id")
