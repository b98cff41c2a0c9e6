"""Agents of CVAT (cvat-cli) with clients/cvat/func.py, against a fake CVAT: its masks are the service's."""

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from segserve.masks import rle
from segserve.types import Size
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
    command: Path, cvat: FakeCvat, server: Server, home: Path, *arguments: str, **parameters: str
) -> str:
    """Run cvat-cli with the function, as the page says."""
    options = {"address": server.url, **parameters}
    parts = [f"-p{name}=str:{value}" for name, value in options.items()]
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
    **parameters: str,
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
