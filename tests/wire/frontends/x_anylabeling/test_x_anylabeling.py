"""The protocol of X-AnyLabeling-Server, by the requests that the client sends."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segserve.masks import crop
from segserve.types import Size
from segserve.wire.frontends.x_anylabeling.predict import MarkIn, marks_to_prompts
from segserve.wire.frontends.x_anylabeling.shapes import to_shapes
from tests.serving import Server

X, Y = 413, 190  # on a nucleus of examples/nuclei.png
POINT = {"type": "point", "data": [X, Y], "label": 1}


def payload(picture: bytes, model: str = "starter", **params: Any) -> dict[str, Any]:
    """What the client sends."""
    image = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    defaults = {"conf_threshold": 0.0, "iou_threshold": 0.0, "epsilon_factor": 0.001}
    return {"model": model, "image": image, "params": {**defaults, **params}}


def predict(server: Server, body: Any) -> dict[str, Any]:
    answer = server.client.post("/x-anylabeling/v1/predict", json=body, headers={"Token": ""})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def shape_area(shape: dict[str, Any]) -> float:
    """The area inside a polygon, by the shoelace formula."""
    x, y = np.array(shape["points"]).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def test_models_have_the_widgets_of_their_kind(server: Server) -> None:
    models = server.client.get("/x-anylabeling/v1/models").json()["data"]
    widgets = {
        name: {widget["name"] for widget in models[name]["widgets"]} for name in ("starter", "starter-unet")
    }
    assert {"button_add_point", "button_add_rect", "button_finish_object", "button_run"} <= widgets["starter"]
    assert "button_add_point" not in widgets["starter-unet"]
    assert "button_run" in widgets["starter-unet"]
    one = server.client.get("/x-anylabeling/v1/models/starter/info").json()["data"]
    assert one == models["starter"]
    assert server.client.get("/x-anylabeling/health").json() == {"status": "healthy"}


def test_a_click_is_a_proposal(server: Server, nuclei: Path) -> None:
    data = predict(server, payload(nuclei.read_bytes(), marks=[POINT], epsilon_factor=0.0))["data"]
    assert data["replace"] is False
    [shape] = data["shapes"]
    assert shape["label"] == "AUTOLABEL_OBJECT"
    assert shape["shape_type"] == "polygon"
    by_rest = server.click(server.upload(nuclei), X, Y).json()["results"][0]["masks"][0]
    assert shape_area(shape) == pytest.approx(by_rest["area"], rel=0.02)  # an outline cuts corners
    assert shape["score"] == by_rest["score"]


def test_a_rectangle_may_be_drawn_from_any_corner(server: Server, nuclei: Path) -> None:
    shapes = [
        predict(server, payload(nuclei.read_bytes(), marks=[{"type": "rectangle", "data": data, "label": 1}]))
        for data in ([390, 170, 440, 215], [440, 215, 390, 170])
    ]
    assert shapes[0]["data"]["shapes"] == shapes[1]["data"]["shapes"] != []


def test_each_of_several_rectangles_is_an_object(server: Server, nuclei: Path) -> None:
    boxes = [[390, 170, 440, 215], [390, 170, 440, 215]]
    marks = [{"type": "rectangle", "data": box, "label": 1} for box in boxes]
    one, two = (
        predict(server, payload(nuclei.read_bytes(), marks=sent))["data"]["shapes"]
        for sent in (marks[:1], marks)
    )
    assert [shape["points"] for shape in two] == [shape["points"] for shape in one] * 2


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], [[], []]),
        ([(5, 5, 1), (25, 5, 0)], [[(5, 5), (25, 5)], [(25, 5)]]),
        ([(50, 50, 1), (25, 5, 0)], [[(25, 5)], [(25, 5)], [(50, 50), (25, 5)]]),
    ],
)
def test_points_belong_to_the_rectangle_that_they_are_in(
    points: list[tuple[int, int, int]], expected: list[list[tuple[int, int]]]
) -> None:
    marks = [MarkIn(type="rectangle", data=[x, 0, x + 10, 10], label=1) for x in (0, 20)]
    marks += [MarkIn(type="point", data=[x, y], label=label) for x, y, label in points]
    prompts = marks_to_prompts(marks)
    assert [[tuple(point) for point in prompt["points"]] for prompt in prompts] == expected
    assert [prompt.get("box") for prompt in prompts][:2] == [[0, 0, 10, 10], [20, 0, 30, 10]]


def test_the_slider_leaves_vertices_out(server: Server, nuclei: Path) -> None:
    counts = [
        len(
            predict(server, payload(nuclei.read_bytes(), marks=[POINT], epsilon_factor=factor))["data"][
                "shapes"
            ][0]["points"]
        )
        for factor in (0.0, 0.001, 0.05)
    ]
    assert counts[0] >= counts[1] > counts[2] >= 4


@pytest.mark.parametrize(("model", "label"), [("starter", "object"), ("starter-unet", "nucleus")])
def test_without_marks_everything_is_labelled(server: Server, nuclei: Path, model: str, label: str) -> None:
    data = predict(server, payload(nuclei.read_bytes(), model))["data"]
    assert "replace" not in data
    assert len(data["shapes"]) > 10
    assert {shape["label"] for shape in data["shapes"]} == {label}


def test_the_file_that_comes_with_every_click_is_read_once(server: Server, noise: bytes) -> None:
    def count(source: str) -> float:
        return server.metric(f'segserve_frontend_images_total{{source="{source}"}}')

    read, recognised = count("read"), count("recognised")
    for x in (5, 10, 15, 20):
        predict(server, payload(noise, marks=[{"type": "point", "data": [x, 9], "label": 1}]))
    assert (count("read"), count("recognised")) == (read + 1, recognised + 3)


def test_it_is_encoded_once_whatever_it_comes_by(server: Server, noise: bytes) -> None:
    def encoded() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("segserve_encode_batch_images_sum")
        )

    before = encoded()
    predict(server, payload(noise, marks=[{"type": "point", "data": [9, 9], "label": 1}]))
    image = {
        "name": "image_file",
        "datatype": "BYTES",
        "shape": [1],
        "data": [base64.b64encode(noise).decode()],
    }
    point = {"name": "point_coords", "datatype": "FP32", "shape": [1, 2], "data": [5, 5]}
    wanted = [{"name": "iou_predictions"}]
    body = {"inputs": [image, point], "outputs": wanted}
    assert server.client.post("/v2/models/starter/infer", json=body).status_code == 200
    assert server.click(server.upload(noise), 7, 7).status_code == 200
    assert encoded() == before + 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "none"}, "no model"),
        ({"image": "data:image/png;base64,!!"}, "base64"),
        ({"image": "AAAA"}, "image"),
        ({"image": None}, "image"),
        ({"params": {"marks": [{"type": "point", "data": [1], "label": 1}]}}, "no mark"),
        ({"params": {"marks": [{"type": "circle", "data": [1, 2]}]}}, "no mark"),
        ({"params": {"marks": [{"type": "point", "data": [9999, 1], "label": 1}]}}, "outside"),
        ({"params": {"marks": 7}}, "marks"),
        ({"params": {"text_prompt": "nucleus"}}, "Texts"),
    ],
)
def test_labels_survive_errors(server: Server, nuclei: Path, change: dict[str, Any], words: str) -> None:
    """The client keeps the labels only after status 200 with data that says so."""
    content = predict(server, {**payload(nuclei.read_bytes()), **change})
    assert content["success"] is False
    assert content["data"] == {"shapes": [], "description": "", "replace": False}
    assert words in content["error"]["message"]


@pytest.mark.parametrize(
    "kept",
    [{"content": b"{"}, {"content": b""}, {"json": {}, "headers": {"origin": "https://evil.example"}}],
    ids=["broken", "empty", "origin"],
)
def test_labels_survive_refusals(server: Server, kept: dict[str, Any]) -> None:
    content = server.client.post("/x-anylabeling/v1/predict", **kept)
    assert content.status_code == 200
    assert content.json()["data"]["replace"] is False


def test_an_unknown_path_is_no_success(server: Server) -> None:
    answer = server.client.get("/x-anylabeling/v1/models/none/info")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "MODEL_NOT_FOUND"


def test_parts_of_one_object_stay_together() -> None:
    mask = np.zeros((20, 40), np.bool_)
    mask[2:10, 2:10] = mask[5:15, 20:35] = True
    shapes = to_shapes(crop.from_mask(mask), "a", 0.5, 0.0, group_id=3)
    assert [shape["group_id"] for shape in shapes] == [3, 3]
    assert sum(map(shape_area, shapes)) == pytest.approx(mask.sum(), abs=2)
    assert to_shapes(crop.empty_crop(Size(20, 40)), "a", None, 0.001) == []
