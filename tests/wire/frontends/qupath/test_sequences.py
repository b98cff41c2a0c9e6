"""Sequences of QuPath, by the requests of SAMSequenceTask: a picture for each plane, in parallel, then the prompts."""

import base64
import io
import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw
from shapely.geometry import Point, shape

from tests.serving import Server

COUNT, WIDTH, HEIGHT, RADIUS = 5, 160, 120, 18
OPEN = 'segserve_frontend_sessions{frontend="qupath"}'


def centre(number: int) -> tuple[int, int]:
    return 50 + 4 * number, 60


def draw_picture(number: int) -> bytes:
    picture = Image.new("RGB", (WIDTH, HEIGHT), (20, 20, 20))
    x, y = centre(number)
    ImageDraw.Draw(picture).ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=(210, 210, 210))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


def upload(server: Server, name: str, number: int, file_name: str | None = None) -> httpx.Response:
    file = (file_name or f"{number}.jpg", draw_picture(number), "image/jpeg")
    return server.client.post("/sam/upload/", data={"dirname": name}, files={"file": file})


def follow(server: Server, **fields: Any) -> httpx.Response:
    body = {"type": "sam2_t", "plane_position": 3, "start_frame_idx": 0, **fields}
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return server.client.post("/sam/video/", content=json.dumps(body), headers=headers, timeout=300)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def check_discs(features: list[dict[str, Any]], axis: str, numbers: range) -> None:
    other = "t" if axis == "z" else "z"
    planes = [feature["geometry"]["plane"] for feature in features]
    assert sorted(plane[axis] for plane in planes) == list(numbers)
    for feature, plane in zip(features, planes, strict=True):
        assert (plane["c"], plane[other]) == (-1, 3)
        assert feature["properties"] == {"object_idx": 0, "label": "object", "sam_model": "starter"}
        found, truth = shape(feature["geometry"]), Point(centre(plane[axis])).buffer(RADIUS)
        assert found.intersection(truth).area / found.union(truth).area > 0.7


@pytest.mark.parametrize(("axes", "axis"), [("XYZ", "z"), ("XYT", "t")])
def test_an_object_is_followed_from_where_it_is_drawn_both_ways(server: Server, axes: str, axis: str) -> None:
    name = str(uuid.uuid4())
    with ThreadPoolExecutor(3) as pool:  # the extension sends them in parallel
        answers = list(pool.map(lambda number: upload(server, name, number), range(COUNT)))
    assert [answer.status_code for answer in answers] == [200] * COUNT, answers[0].text
    assert server.metric(OPEN) == 1
    x, y = centre(2)
    drawn = {"obj_id": 0, "bbox": [x - 20, y - 20, x + 20, y + 20]}
    answer = follow(server, dirname=name, axes=axes, objs={"2": [drawn]}, checkpointUrl="segserve:starter")
    assert answer.status_code == 200, answer.text
    check_discs(answer.json(), axis, range(COUNT))
    assert server.metric(OPEN) == 0
    assert follow(server, dirname=name, objs={"2": [drawn]}).status_code == 404  # it is used up


def test_pictures_may_come_with_the_prompts(server: Server) -> None:
    pictures = [base64.b64encode(draw_picture(number)).decode() for number in range(COUNT)]
    drawn = {"obj_id": 0, "point_coords": [centre(0)], "point_labels": [1]}
    answer = follow(server, b64imgs=pictures, axes="XYT", objs={"0": [drawn]}, max_frame_num_to_track=2)
    assert answer.status_code == 200, answer.text
    check_discs(answer.json(), "t", range(3))


@pytest.mark.parametrize("file_name", ["../../etc/passwd", "a.jpg", "1.png", "1.jpg/..", ""])
def test_names_are_numbers_and_lead_nowhere(server: Server, file_name: str) -> None:
    answer = upload(server, "../outside", 1, file_name or " ")
    assert answer.status_code == 422, answer.text
    assert answer.json().keys() == {"detail"}


def test_what_is_wrong_is_said(server: Server) -> None:
    name = str(uuid.uuid4())
    drawn = [{"obj_id": 0, "bbox": [1, 1, 9, 9]}]
    assert upload(server, name, 0).status_code == 200
    assert "was sent before" in upload(server, name, 0).json()["detail"]
    assert upload(server, "x" * 129, 0).status_code == 422
    assert server.client.post("/sam/upload/", data={"dirname": name}).status_code == 422
    assert follow(server, objs={"0": drawn}).status_code == 422  # neither of the two
    assert follow(server, dirname="none", objs={"0": drawn}).status_code == 404
    assert follow(server, dirname=name, objs={}).status_code == 422
    assert upload(server, name, 1).status_code == 200
    answer = follow(server, dirname=name, objs={"7": drawn})
    assert answer.status_code == 422
    assert "no picture 7" in answer.json()["detail"]
    wait_until(lambda: server.metric(OPEN) == 0)
