"""Agents of CVAT (cvat-cli) with clients/cvat/func.py, against a fake CVAT: its masks are the service's."""

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segserve.masks import crop, rle
from segserve.types import Size
from segserve_client import Client
from tests.clients.environments import TIMEOUT_S, install
from tests.clients.fake_cvat import FUNCTION, FakeCvat, Request
from tests.serving import Server

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
FUNCTION_FILE = ROOT / "clients" / "cvat" / "func.py"
X, Y = 413, 190  # on a nucleus of examples/nuclei.png
ROI = [340, 130, 480, 260]


@pytest.fixture(scope="module")
def command() -> Path:
    python = install("cvat", "cvat-cli==2.80.0", "numpy", "contourpy", "httpx")
    return python.parent / "cvat-cli"


@pytest.fixture
def cvat(nuclei: Path) -> Iterator[FakeCvat]:
    fake = FakeCvat([nuclei.read_bytes()])
    yield fake
    fake.close()


def run_cli(
    command: Path, cvat: FakeCvat, server: Server, home: Path, *arguments: str, **parameters: str | int
) -> str:
    """Run cvat-cli with the function, as the page says."""
    options: dict[str, str | int] = {"address": server.url, **parameters}
    parts = [f"-p{name}={type(value).__name__}:{value}" for name, value in options.items()]
    line = [str(command), "--server-host", cvat.url, "function", *arguments]
    line += ["--function-file", str(FUNCTION_FILE), *parts]
    env = {
        **os.environ,
        "CVAT_ACCESS_TOKEN": "t",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT / "clients" / "python" / "src"),
    }
    done = subprocess.run(line, capture_output=True, text=True, timeout=TIMEOUT_S, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def run_agent(
    command: Path,
    cvat: FakeCvat,
    server: Server,
    home: Path,
    requests: list[Request],
    **parameters: str | int,
) -> list[dict[str, Any]]:
    """Register the function, hand out requests, and return the results."""
    printed = run_cli(command, cvat, server, home, "create-native", "segserve", **parameters)
    assert str(FUNCTION) in printed
    cvat.requests += requests
    printed = run_cli(command, cvat, server, home, "run-agent", str(FUNCTION), "--burst", **parameters)
    assert cvat.failures == [], printed[-6000:]
    assert cvat.unknown == []
    return cvat.results


def decode(points: list[float], size: Size) -> np.ndarray:
    """As cvat_sdk.masks.decode_mask does it."""
    *runs, left, top, right, bottom = map(int, points)
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(bottom - top + 1, right - left + 1)
    mask = np.zeros((size.height, size.width), np.bool_)
    mask[top : bottom + 1, left : right + 1] = pixels
    return mask


def rest_mask(server: Server, picture: bytes, **prompt: Any) -> np.ndarray:
    body = {"image_id": server.upload(picture), "prompts": [prompt]}
    answer = server.client.post("/v1/segment", json=body).json()
    size = Size(answer["height"], answer["width"])
    return rle.decode(answer["results"][0]["masks"][0]["mask"]["counts"], size)


def test_an_interactor_answers_the_mask_of_rest(
    command: Path, cvat: FakeCvat, server: Server, nuclei: Path, tmp_path: Path
) -> None:
    left, top = ROI[:2]
    click = {"type": "interact", "frame": 0, "neg_points": [], "obj_bbox": []}
    requests: list[Request] = [
        {**click, "pos_points": [[X, Y]], "neg_points": [[10, 10]]},
        {**click, "pos_points": [], "obj_bbox": [[390, 170], [440, 215]]},
        {**click, "pos_points": [[X - left, Y - top]], "roi": ROI},
    ]
    results = run_agent(command, cvat, server, tmp_path, requests, kind="interactor")
    assert cvat.function["kind"] == "interactor"
    crop = io.BytesIO()
    Image.open(nuclei).convert("RGB").crop(tuple(ROI)).save(crop, "PNG")
    whole = nuclei.read_bytes()
    expected = [
        rest_mask(server, whole, points=[[X, Y], [10, 10]], labels=[1, 0]),
        rest_mask(server, whole, box=[390, 170, 440, 215]),
        rest_mask(server, crop.getvalue(), points=[[X - left, Y - top]]),
    ]
    for result, mask in zip(results, expected, strict=True):
        [shape] = result["shapes"]
        assert shape["type"] == "mask"
        np.testing.assert_array_equal(decode(shape["points"], Size(*mask.shape)), mask)


@pytest.mark.parametrize("as_polygons", [False, True])
def test_a_detector_finds_the_objects_of_rest(
    command: Path, cvat: FakeCvat, server: Server, nuclei: Path, tmp_path: Path, as_polygons: bool
) -> None:
    request = {
        "type": "annotate_frame",
        "frame": 0,
        "mapping": {"object": {"name": "object", "attributes": {}}},
        "threshold": None,
        "conv_mask_to_poly": as_polygons,
    }
    [result] = run_agent(command, cvat, server, tmp_path, [request], kind="objects")
    shapes = result["annotations"]["shapes"]
    body = {"image_id": server.upload(nuclei), "format": "rle"}
    answer = server.client.post("/v1/automatic", json=body).json()
    size = Size(answer["height"], answer["width"])
    expected = [rle.decode(item["mask"]["counts"], size) for item in answer["objects"]]
    assert len(shapes) == len(expected)
    for shape, mask in zip(shapes, expected, strict=True):
        if not as_polygons:
            assert shape["type"] == "mask"
            np.testing.assert_array_equal(decode(shape["points"], size), mask)
    if as_polygons:
        assert {shape["type"] for shape in shapes} == {"polygon"}
        drawn = Image.new("1", (size.width, size.height))
        for shape in shapes:
            corners = [(x - 0.5, y - 0.5) for x, y in np.reshape(shape["points"], (-1, 2)).tolist()]
            ImageDraw.Draw(drawn).polygon(corners, fill=1)
        union = np.logical_or.reduce(expected)
        got = np.array(drawn)
        assert (got & union).sum() / (got | union).sum() > 0.9


def draw_disc(x: int) -> bytes:
    picture = Image.new("RGB", (128, 96), (20, 20, 20))
    ImageDraw.Draw(picture).ellipse((x, 30, x + 24, 54), fill=(200, 200, 200))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_a_tracker_follows_a_moving_shape(command: Path, server: Server, tmp_path: Path) -> None:
    places = [30, 34, 38]
    cvat = FakeCvat([draw_disc(x) for x in places])
    kinds = ("rectangle", "polygon")
    shapes = [
        {"type": "rectangle", "points": [30, 30, 54, 54]},
        {"type": "polygon", "points": [30, 42, 42, 30, 54, 42, 42, 54]},
    ]

    def follow(frame: int) -> Request:
        return lambda before: {"type": "track", "frame": frame, "states": before["states"]}

    requests: list[Request] = [{"type": "init_tracking", "frame": 0, "shapes": shapes}, follow(1), follow(2)]
    try:
        results = run_agent(command, cvat, server, tmp_path, requests, kind="tracker")
    finally:
        cvat.close()
    assert {"rectangle", "polygon"} <= set(cvat.function["supported_shape_types"])
    for x, result in zip(places[1:], results[1:], strict=True):
        assert [shape["type"] for shape in result["shapes"]] == list(kinds)
        for shape in result["shapes"]:
            corners = np.reshape(shape["points"], (-1, 2))
            expected = [[x, 30], [x + 24, 54]]
            np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], expected, atol=4)


EDGE = 128  # of the network's input


@pytest.fixture
def memory_server(tmp_path: Path) -> Iterator[Server]:
    """A service whose model "m" is a SAM 2 of random weights."""
    pytest.importorskip("torch")
    pytest.importorskip("sam2")
    from tests.sam2_memory.reference import TINY
    from tests.sam2_memory.test_network_steps import write_bundle

    (folder := tmp_path / "data" / "models" / "m").mkdir(parents=True)
    write_bundle(folder, f"hiera_{TINY}")
    server = Server(tmp_path / "data", encode_threads="1")
    server.wait_ready()
    yield server
    assert server.stop() == 0


def write_mask(mask: np.ndarray) -> list[float]:
    """As cvat_sdk.masks.encode_mask does it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    flat = mask[top : bottom + 1, left : right + 1].ravel()
    runs = np.diff(np.flatnonzero(np.diff(flat.astype(int), prepend=1 - int(flat[0]), append=2)))
    return [float(n) for n in ([] if not flat[0] else [0]) + runs.tolist() + [left, top, right, bottom]]


def test_a_tracker_by_memory_answers_what_a_job_on_these_frames_does(
    command: Path, memory_server: Server, tmp_path: Path
) -> None:
    clip = [draw_disc(x) for x in (30, 34, 38)]
    size = Size(96, 128)
    drawn = np.zeros((2, size.height, size.width), np.bool_)
    drawn[0, 30:54, 30:54] = True
    drawn[1, 60:80, 90:120] = True
    cvat = FakeCvat(clip)
    shapes = [{"type": "mask", "points": write_mask(mask)} for mask in drawn]
    shapes.append({"type": "rectangle", "points": [30, 30, 54, 54]})

    def follow(frame: int) -> Request:
        return lambda before: {"type": "track", "frame": frame, "states": before["states"]}

    requests: list[Request] = [{"type": "init_tracking", "frame": 0, "shapes": shapes}, follow(1), follow(2)]
    try:
        results = run_agent(
            command, cvat, memory_server, tmp_path, requests, kind="tracker", model="m", image_size=EDGE
        )
    finally:
        cvat.close()
    # A job for all shapes that were on the same frames: those that are there remember frame 1 too.
    is_there = [shape is not None for shape in results[1]["shapes"]]
    line = 'segserve_requests_total{method="POST",model="",problem="",route="/v1/jobs",status="202"}'
    assert memory_server.metric(line) == 1 + any(is_there) + (not all(is_there))
    assert memory_server.client.get("/v1/jobs").json()["jobs"] == []  # the agent leaves none behind
    prompts: list[dict[str, Any]] = [
        {"mask": {"size": [size.height, size.width], "counts": rle.encode(crop.from_mask(mask))}}
        for mask in drawn
    ]
    prompts.append({"box": [30, 30, 54, 54]})
    with Client(memory_server.url) as client:
        frames = np.stack([np.array(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in clip[:2]])
        params = {
            "engine": "memory",
            "direction": "forward",
            "image_size": EDGE,
            "objects": [
                {"object_id": number, "prompts": [{"frame": 0, **prompt}]}
                for number, prompt in enumerate(prompts, 1)
            ],
        }
        file_id = client.upload(frames).file_id
        job = client.submit({"kind": "video", "model": "m", "input": {"file_id": file_id}, "params": params})
        assert job.wait().state == "succeeded"
        expected = json.loads(job.read("ndjson").splitlines()[1])["objects"]
    by_number = {item["object_id"]: item for item in expected}
    assert by_number
    for number, shape in enumerate(results[1]["shapes"], 1):
        item = by_number.get(number)
        if item is None:
            assert shape is None
        elif shape["type"] == "rectangle":
            assert shape["points"] == item["box"]
        else:
            np.testing.assert_array_equal(
                decode(shape["points"], size), rle.decode(item["mask"]["counts"], size)
            )
