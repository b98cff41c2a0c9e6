"""MONAI Label's protocol, by the requests that 3D Slicer, OHIF and the `monailabel` client send."""

import io
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import SimpleITK as itk
from numpy.typing import NDArray
from PIL import Image

from tests.serving import Server
from tests.wire.raw_http import connect

SLICES, ROWS, COLUMNS = 6, 80, 96
# An object that no flip and no swap of axes leaves where it is: i, j, k of its middle voxel, and its half edges.
MIDDLE, HALF = (60, 24, 2), (14, 9, 1)
SPACING, ORIGIN = (0.7, 0.9, 2.5), (-12.5, 30.25, 101.0)
DIRECTION = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
MODEL = "starter"
OPEN = 'segserve_frontend_sessions{frontend="monai"}'
ENCODED = 'segserve_encoded_images_total{model="starter"}'
WAIT_S = 90


def draw_volume() -> NDArray[np.int16]:
    """[slices, rows, columns]: a bright box on a dark ground, with some texture."""
    rng = np.random.default_rng(5)
    values = rng.integers(0, 60, (SLICES, ROWS, COLUMNS)).astype(np.int16)
    (i, j, k), (di, dj, dk) = MIDDLE, HALF
    values[k - dk : k + dk + 1, j - dj : j + dj + 1, i - di : i + di + 1] += 900
    return values


def truth() -> NDArray[np.bool_]:
    return draw_volume() > 500


def write_itk(suffix: str) -> bytes:
    image = itk.GetImageFromArray(draw_volume())
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(DIRECTION)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"volume{suffix}"
        itk.WriteImage(image, str(path))
        return path.read_bytes()


def read_itk(data: bytes, suffix: str) -> itk.Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"label{suffix}"
        path.write_bytes(data)
        return itk.ReadImage(str(path))


def iou(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float((found & expected).sum() / (found | expected).sum())


@pytest.fixture(scope="module")
def volume() -> bytes:
    return write_itk(".nrrd")


@pytest.fixture(scope="module")
def monai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("monai"), monai_labels='["liver", "spleen"]', max_sessions="4")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


def post(
    server: Server, model: str, params: dict[str, Any], *, query: str = "", file: bytes | None = None
) -> httpx.Response:
    """Infer as the clients do: a form with `params`, and a file where there is one."""
    files: dict[str, Any] = {"params": (None, json.dumps(params))}
    if file is not None:
        files["file"] = ("volume.nrrd", file)
    return server.client.post(f"/monai/infer/{model}?{query}", files=files, timeout=WAIT_S)


def infer(server: Server, model: str, params: dict[str, Any], **how: Any) -> NDArray[Any]:
    """Return the labels [slices, rows, columns] of an answer as NRRD."""
    answer = post(server, model, {**params, "result_extension": ".nrrd"}, query="output=image", **how)
    assert answer.status_code == 200, answer.text
    return np.asarray(itk.GetArrayFromImage(read_itk(answer.content, ".nrrd")))


def parse_form(answer: httpx.Response) -> dict[str, tuple[str | None, bytes]]:
    """Return (file name, content) of each part, by its name."""
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts: dict[str, tuple[str | None, bytes]] = {}
    for part in message_from_bytes(head + answer.content).get_payload():
        name = part.get_param("name", header="content-disposition")  # type: ignore[union-attr]
        parts[str(name)] = (part.get_filename(), part.get_payload(decode=True))  # type: ignore[union-attr, assignment]
    return parts


def open_session(server: Server, data: bytes, client: httpx.Client | None = None) -> str:
    answer = (client or server.client).put("/monai/session/", files=[("files", ("volume.nrrd", data))])
    assert answer.status_code == 200, answer.text
    info = answer.json()["session_info"]
    assert info["name"] == "volume.nrrd"
    assert info["path"] == ""
    return str(answer.json()["session_id"])


def test_models_are_listed_as_tasks(monai: Server) -> None:
    for path in ("/monai/info/", "/monai/info"):
        info = monai.client.get(path).json()
        models = info["models"]
        assert list(models)[:3] == ["starter_2d", "starter_3d", "starter_automatic"]
        assert (models["starter_2d"]["type"], models["starter_2d"]["dimension"]) == ("deepgrow", 2)
        assert (models["starter_3d"]["type"], models["starter_3d"]["dimension"]) == ("deepgrow", 3)
        assert models["starter_automatic"]["type"] == "segmentation"
        assert models["starter-unet"]["type"] == "segmentation"
        assert models["starter_2d"]["labels"] == {"liver": 1, "spleen": 2}
        assert info["labels"][:2] == ["liver", "spleen"]
        # 3D Slicer refuses a server that has one.
        assert "config" not in info
        for model in models.values():
            assert {"description", "config", "labels"} <= set(model)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_a_click_lands_where_the_client_means(monai: Server, volume: bytes, suffix: str) -> None:
    i, j, k = MIDDLE
    params = {"foreground": [[i, j, k]], "background": [], "label": "liver", "slice": k}
    params |= {"result_extension": suffix, "result_dtype": "uint8"}
    parts = parse_form(post(monai, "starter_2d", params, file=volume))
    assert parts["params"][0] is None
    details = json.loads(parts["params"][1])
    assert details["label_names"] == {"liver": 1}
    assert details["latencies"]["total"] >= 0
    name, data = parts["image"]
    assert name == f"label{suffix}"
    labels = read_itk(data, suffix)
    np.testing.assert_allclose(labels.GetSpacing(), SPACING, rtol=1e-5)
    np.testing.assert_allclose(labels.GetOrigin(), ORIGIN, rtol=1e-5)
    np.testing.assert_allclose(labels.GetDirection(), DIRECTION, atol=1e-5)
    assert labels.GetPixelIDValue() == itk.sitkUInt8
    values = itk.GetArrayFromImage(labels)
    expected = truth()
    expected[np.arange(SLICES) != k] = False
    assert set(np.unique(values)) == {0, 1}
    assert iou(values > 0, expected) > 0.8


def test_a_click_is_that_of_rest(monai: Server, volume: bytes) -> None:
    i, j, k = MIDDLE
    file_id = monai.client.post("/v1/files", files={"file": volume}).json()["file_id"]
    image_id = monai.client.post("/v1/images", json={"file_id": file_id, "frame": k}).json()["image_id"]
    by_rest = monai.click(image_id, i, j).json()["results"][0]["masks"][0]
    values = infer(monai, "starter_2d", {"foreground": [[i, j, k]]}, file=volume)
    assert int(values.sum()) == by_rest["area"]


def test_the_last_point_says_which_slice(monai: Server, volume: bytes) -> None:
    i, j, k = MIDDLE
    values = infer(monai, "starter_2d", {"foreground": [[5, 5, 0], [i, j, k]]}, file=volume)
    assert sorted(set(np.nonzero(values)[0])) == [k]


@pytest.mark.parametrize("form", ["corners", "axis pairs", "axis pairs of a patient"])
def test_a_region_is_a_box(monai: Server, volume: bytes, form: str) -> None:
    (i, j, k), (di, dj, dk) = MIDDLE, HALF
    i0, i1, j0, j1, k0, k1 = i - di - 1, i + di + 2, j - dj - 1, j + dj + 2, k - dk, k + dk
    roi = {
        "corners": [i0, j0, i1, j1],
        "axis pairs": [i0, i1, j0, j1, k0, k1],
        "axis pairs of a patient": [i1, i0, j1, j0, k0, k1],
    }[form]
    values = infer(monai, "starter_2d", {"foreground": [], "roi": roi, "slice": k}, file=volume)
    assert iou(values[k] > 0, truth()[k]) > 0.8


def test_an_object_is_followed_through_slices(monai: Server, volume: bytes) -> None:
    i, j, k = MIDDLE
    # The region bounds the answer: the object is on one slice more, below.
    roi = [-20, COLUMNS + 20, -20, ROWS + 20, k, SLICES + 2]
    params = {"foreground": [[i, j, k]], "background": [[5, 70, k]]}
    values = infer(monai, "starter_3d", params, file=volume)
    assert iou(values > 0, truth()) > 0.8
    bounded = infer(monai, "starter_3d", {**params, "roi": roi}, file=volume)
    assert not bounded[:k].any()
    assert bounded[k].any()


def test_the_job_ends_where_the_client_leaves(monai: Server) -> None:
    long = np.repeat(draw_volume(), 60, axis=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.nrrd"
        itk.WriteImage(itk.GetImageFromArray(long), str(path))
        data = path.read_bytes()
    session_id = open_session(monai, data)
    files = {"params": (None, json.dumps({"foreground": [[*MIDDLE[:2], 150]]}))}
    request = monai.client.build_request(
        "POST", f"/monai/infer/starter_automatic?session_id={session_id}", files=files
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    known = [job["job_id"] for job in monai.client.get("/v1/jobs").json()["jobs"]]

    def wait_for(states: tuple[str, ...]) -> None:
        deadline = time.monotonic() + WAIT_S
        while True:
            job = next(iter(monai.client.get("/v1/jobs").json()["jobs"]), None)
            if job is not None and job["job_id"] not in known:
                if job["state"] in states:
                    return
                assert job["state"] != "succeeded", "it ran on to its end"
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with closing(connect(monai)) as link:
        link.sendall(f"POST {request.url.raw_path.decode()} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        wait_for(("queued", "running"))
    wait_for(("cancelled",))
    monai.client.delete(f"/monai/session/{session_id}")


def test_objects_and_classes_without_clicks(monai: Server, volume: bytes) -> None:
    params = {"separate_objects": True, "result_dtype": "uint16"}
    parts = parse_form(post(monai, "starter_automatic", params, file=volume))
    details = json.loads(parts["params"][1])
    assert len(details["label_names"]) == details["objects"]
    classes = infer(monai, "starter-unet", {}, file=volume)
    assert classes.shape == (SLICES, ROWS, COLUMNS)
    refused = post(monai, "starter_2d", {}, file=volume)
    assert refused.status_code == 422
    assert "No slice is named" in refused.json()["detail"]


def test_a_picture_is_answered_as_one(monai: Server, nuclei: Path) -> None:
    data, params = nuclei.read_bytes(), {"foreground": [[413, 190]], "background": [], "output": "mask"}
    parts = parse_form(post(monai, "starter", params, file=data))
    name, png = parts["image"]
    assert name == "label.png"
    mask = np.array(Image.open(io.BytesIO(png)))
    assert mask.shape == np.array(Image.open(nuclei)).shape[:2]
    area = monai.click(monai.upload(nuclei), 413, 190).json()["results"][0]["masks"][0]["area"]
    assert int((mask > 0).sum()) == area
    only_json = post(monai, "starter", params, query="output=json", file=data).json()
    assert only_json["label_names"] == {"liver": 1}


def test_a_session_holds_a_volume_and_ends(monai: Server, volume: bytes) -> None:
    before = monai.metric(OPEN)
    session_id = open_session(monai, volume)
    assert monai.metric(OPEN) == before + 1
    shown = monai.client.get(f"/monai/session/{session_id}")
    assert shown.status_code == 200
    assert shown.json()["meta"] == {"slices": SLICES}
    for _ in range(2):
        answer = post(monai, "starter_2d", {"foreground": [list(MIDDLE)]}, query=f"session_id={session_id}")
        assert answer.status_code == 200, answer.text
        encoded = monai.metric(ENCODED)
        assert encoded > 0
    # The same volume with the request, and in the datastore: the slice is known.
    monai.client.put("/monai/datastore/?image=again", files={"file": ("tmp.nrrd", volume)})
    for how in ({"file": volume}, {"query": "image=again"}):
        assert post(monai, "starter_2d", {"foreground": [[5, 5, MIDDLE[2]]]}, **how).status_code == 200  # type: ignore[arg-type]
    assert monai.metric(ENCODED) == encoded, "each slice is encoded once"
    monai.client.delete("/monai/datastore/?id=again")
    assert monai.client.delete(f"/monai/session/{session_id}").status_code == 200
    deadline = time.monotonic() + WAIT_S
    while monai.metric(OPEN) != before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    gone = monai.client.get(f"/monai/session/{session_id}")
    assert gone.status_code == 404
    assert set(gone.json()) == {"detail"}


def test_sessions_are_their_owners(monai: Server, volume: bytes) -> None:
    session_id = open_session(monai, volume)
    with monai.client_from("127.0.0.2") as other:
        assert other.get(f"/monai/session/{session_id}").status_code == 404
        files = {"params": (None, json.dumps({"foreground": [list(MIDDLE)]}))}
        stolen = other.post(f"/monai/infer/starter_2d?session_id={session_id}", files=files)
        assert stolen.status_code == 404
        theirs = open_session(monai, volume, other)
        assert other.delete(f"/monai/session/{theirs}").status_code == 200
    # The file of the other session was deleted: ours, of the same bytes, is still there.
    answer = post(monai, "starter_2d", {"foreground": [list(MIDDLE)]}, query=f"session_id={session_id}")
    assert answer.status_code == 200, answer.text
    assert monai.client.delete(f"/monai/session/{session_id}").status_code == 200


def test_a_client_has_its_share_of_sessions(monai: Server, volume: bytes) -> None:
    opened = [open_session(monai, volume) for _ in range(2)]
    refused = monai.client.put("/monai/session/", files=[("files", ("volume.nrrd", volume))])
    assert refused.status_code == 503
    assert "SEGSERVE_MAX_CLIENT_SHARE" in refused.json()["detail"]
    for session_id in opened:
        monai.client.delete(f"/monai/session/{session_id}")


def test_the_datastore_keeps_images_and_labels(monai: Server, volume: bytes) -> None:
    put = monai.client.put("/monai/datastore/?image=scan 1", files={"file": ("tmp.nrrd", volume)})
    assert put.json() == {"image": "scan 1"}
    sample = monai.client.post("/monai/activelearning/first", json={"client_id": "x"}).json()
    assert sample["id"] == "scan 1"
    assert sample["name"] == "scan 1.nrrd"
    answer = post(monai, "starter_2d", {"foreground": [list(MIDDLE)]}, query="image=scan 1")
    label = parse_form(answer)["image"][1]
    files = {
        "label": ("label.nrrd", label),
        "params": (None, '{"label_info": [{"name": "liver", "idx": 1}]}'),
    }
    saved = monai.client.put("/monai/datastore/label?image=scan 1", files=files)
    assert saved.json() == {"image": "scan 1", "label": "scan 1"}
    assert monai.client.get("/monai/info/").json()["datastore"]["completed"] == 1
    assert monai.client.post("/monai/activelearning/first", json={}).json() == {}
    listed = monai.client.get("/monai/datastore/?output=all").json()["objects"]["scan 1"]
    assert listed["image"]["ext"] == ".nrrd"
    assert listed["labels"]["final"]["info"]["label_info"][0]["name"] == "liver"
    back = monai.client.get("/monai/datastore/label?label=scan 1&tag=final")
    assert back.content == label
    assert 'filename="scan_1.nrrd"' in back.headers["content-disposition"]
    assert monai.client.get("/monai/datastore/image?image=scan 1").content == volume
    assert monai.client.head("/monai/datastore/image?image=scan 1").status_code == 200
    updated = monai.client.put(
        "/monai/datastore/label/info?label=scan 1&tag=final", files={"info": (None, '{"status": "approved"}')}
    )
    assert updated.json()["status"] == "approved"
    assert monai.client.delete("/monai/datastore/label?id=scan 1&tag=final").status_code == 200
    assert monai.client.get("/monai/datastore/label?label=scan 1&tag=final").status_code == 404
    assert monai.client.delete("/monai/datastore/?id=scan 1").status_code == 200
    assert monai.client.get("/monai/datastore/").json()["total"] == 0


def test_what_is_no_label_is_refused(monai: Server, volume: bytes) -> None:
    files = {"label": ("label.bin", b"\0" * 4096)}
    unknown = monai.client.put("/monai/datastore/label?image=none", files=files)
    assert unknown.status_code == 404
    monai.client.put("/monai/datastore/?image=raw", files={"file": ("tmp.nrrd", volume)})
    raw = monai.client.put("/monai/datastore/label?image=raw", files=files)
    assert raw.status_code == 422
    assert "no volume" in raw.json()["detail"]
    monai.client.delete("/monai/datastore/?id=raw")


@pytest.mark.parametrize("name", ["../scan", "a/b", "C:\\scan", ".hidden", "a\u202eb"])
def test_names_that_are_paths_are_refused(monai: Server, volume: bytes, name: str) -> None:
    """3D Slicer names the file by it that it downloads."""
    answer = monai.client.put(
        "/monai/datastore/", params={"image": name}, files={"file": ("tmp.nrrd", volume)}
    )
    assert answer.status_code == 422
    assert "no name of an image" in answer.json()["detail"]


def test_the_datastore_is_segmented_as_a_batch(monai: Server, volume: bytes) -> None:
    assert monai.client.get("/monai/batch/infer?check_if_running=true").status_code == 404
    monai.client.put("/monai/datastore/?image=b1", files={"file": ("tmp.nrrd", volume)})
    assert monai.client.post("/monai/batch/infer/starter_3d").status_code == 422
    started = monai.client.post("/monai/batch/infer/starter-unet?images=unlabeled", json={"device": "cpu"})
    assert started.status_code == 200, started.text
    deadline = time.monotonic() + WAIT_S
    while (state := monai.client.get("/monai/batch/infer").json())["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert state["status"] == "DONE"
    assert state["details"] == ["b1: done"]
    label = monai.client.get("/monai/datastore/label?label=b1&tag=original")
    assert itk.GetArrayFromImage(read_itk(label.content, ".nrrd")).shape == (SLICES, ROWS, COLUMNS)
    monai.client.delete("/monai/datastore/?id=b1")


def test_nothing_trains_and_nobody_logs_in(monai: Server) -> None:
    polled = monai.client.get("/monai/train/?check_if_running=true")
    assert polled.status_code == 404
    assert set(polled.json()) == {"detail"}
    assert monai.client.post("/monai/train/starter", json={}).status_code == 403
    assert monai.client.get("/monai/auth/").json()["enabled"] is False
    assert monai.client.post("/monai/auth/token", data={"username": "a"}).json()["access_token"] is None
    assert monai.client.get("/monai/auth/token/valid").status_code == 200
    assert monai.client.get("/monai/scoring/").status_code == 404
    assert monai.client.get("/monai/logs/?lines=100").status_code == 200


@pytest.mark.parametrize(
    ("model", "params", "query", "status", "words"),
    [
        ("none", {}, "image=x", 404, "none"),
        ("starter_2d", {"foreground": [[1, 2]]}, "", 422, "which volume"),
        ("starter_2d", {"foreground": [[1, 2]]}, "image=unknown", 404, "no image"),
        ("starter_2d", {"foreground": [[1, 2]]}, "image=1.2.3", 403, "SEGSERVE_DICOMWEB_URL"),
        ("starter_2d", {"foreground": [[1, 2, 3, 4]]}, "image=x", 422, "foreground"),
        ("starter_2d", {"roi": [1, 2, 3]}, "image=x", 422, "6"),
        ("starter_2d", {"result_extension": ".exe"}, "image=x", 422, "result_extension"),
    ],
)
def test_refusals_say_what_is_wrong(
    monai: Server, model: str, params: dict[str, Any], query: str, status: int, words: str
) -> None:
    answer = post(monai, model, params, query=query)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("slice_number", [-1, SLICES])
def test_points_beside_the_volume_are_refused(monai: Server, volume: bytes, slice_number: int) -> None:
    for model in ("starter_2d", "starter_3d"):
        answer = post(monai, model, {"foreground": [[5, 5, slice_number]]}, file=volume)
        assert answer.status_code == 422, answer.text
        assert "There is no slice" in answer.json()["detail"]
