"""Mask R-CNN by the Open Inference Protocol, and its shapes for X-AnyLabeling: the objects of POST /v1/instances."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("torchvision")

from segserve.models.export.mask_rcnn import export_mask_rcnn
from tests.instances.networks import CLASSES, small
from tests.models.networks import noise_image
from tests.serving import Server

THRESHOLD = 0.4


@pytest.fixture(scope="module")
def instances_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("instances")
    export_mask_rcnn(
        small(), folder / "models" / "small", name="small", architecture="small", classes=CLASSES
    )
    running = Server(folder, preload="[]")
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


@pytest.fixture(scope="module")
def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(noise_image(120, 160)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def expected(instances_server: Server, picture: bytes) -> list[dict[str, Any]]:
    body = {"image_id": instances_server.upload(picture), "model": "small", "score_threshold": THRESHOLD}
    objects: list[dict[str, Any]] = instances_server.client.post("/v1/instances", json=body).json()["objects"]
    assert len(objects) > 5
    return objects


def test_tensors_are_the_objects_of_rest(
    instances_server: Server, picture: bytes, expected: list[dict[str, Any]]
) -> None:
    image = base64.b64encode(picture).decode()
    body = {
        "inputs": [{"name": "image_file", "datatype": "BYTES", "shape": [1], "data": [image]}],
        "parameters": {"score_threshold": THRESHOLD, "priority": 0},
    }
    answer = instances_server.client.post("/v2/models/small/infer", json=body)
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    count = len(expected)
    assert outputs["boxes"]["shape"] == [count, 4]
    assert outputs["masks"]["shape"] == [count, 120, 160]
    assert sum(outputs["masks"]["data"]) == sum(item["area"] for item in expected)
    assert outputs["scores"]["data"] == pytest.approx([item["score"] for item in expected])
    assert outputs["class_names"]["data"] == [item["class"] for item in expected]
    names = instances_server.client.get("/v1/models/small").json()["classes"]
    assert [names[number - 1] for number in outputs["class_ids"]["data"]] == outputs["class_names"]["data"]


def test_no_objects_are_tensors_too(instances_server: Server, picture: bytes) -> None:
    image = base64.b64encode(picture).decode()
    body = {
        "inputs": [{"name": "image_file", "datatype": "BYTES", "shape": [1], "data": [image]}],
        "parameters": {"score_threshold": 1.0},
    }
    answer = instances_server.client.post("/v2/models/small/infer", json=body)
    outputs = {output["name"]: output["shape"] for output in answer.json()["outputs"]}
    assert outputs["masks"] == [0, 120, 160]
    assert outputs["boxes"] == [0, 4]


def test_shapes_have_the_names_of_the_classes(
    instances_server: Server, picture: bytes, expected: list[dict[str, Any]]
) -> None:
    body = {
        "model": "small",
        "image": base64.b64encode(picture).decode(),
        "params": {"conf_threshold": THRESHOLD, "epsilon_factor": 0.0},
    }
    shapes = instances_server.client.post("/x-anylabeling/v1/predict", json=body).json()["data"]["shapes"]
    assert {shape["label"] for shape in shapes} <= {item["class"] for item in expected}
    assert len(shapes) >= len({item["class"] for item in expected})
