"""Instances on a real server: every format, over REST, gRPC and the command line, and all refusals."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import imagecodecs
import numpy as np
import orjson
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

pytest.importorskip("torchvision")

from segserve.instances.box_nms import DetectionThresholds
from segserve.instances.segmenter import find_objects
from segserve.masks import crop, label_map
from segserve.models.bundle import Bundle
from segserve.models.export.mask_rcnn import export_mask_rcnn
from segserve.models.instances_model import InstancesModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.timing import Timings
from segserve.types import SegmentedObject
from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests.commands.run_command import run_segserve
from tests.instances.networks import CLASSES, small
from tests.models.networks import noise_image
from tests.serving import Server

PICTURE = noise_image(120, 160)
LIMITS = {"score_threshold": 0.4, "nms_threshold": 0.3, "mask_threshold": 0.5, "max_objects": 30}
SIZE = {"width": 160, "height": 120}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("instances")
    export_mask_rcnn(
        small(), folder / "models" / "small", name="small", architecture="small", classes=CLASSES
    )
    return folder


@pytest.fixture(scope="module")
def picture(data: Path) -> Path:
    Image.fromarray(PICTURE).save(data / "picture.png")
    return data / "picture.png"


@pytest.fixture(scope="module")
def expected(data: Path) -> list[SegmentedObject]:
    """What the parts find, which `tests/instances` compares with torchvision."""
    model = InstancesModel(Bundle(data / "models" / "small"), RuntimeOptions(threads=2))
    result = find_objects(PICTURE, model, DetectionThresholds(0.4, 0.3, 0.5, 30), Timings())
    assert len(result) == 30
    assert len({item.category for item in result}) > 1
    return result


@pytest.fixture(scope="module")
def instances_server(data: Path) -> Iterator[Server]:
    running = Server(data, grpc_port="0")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def image_id(instances_server: Server, picture: Path) -> str:
    return instances_server.upload(picture)


@pytest.fixture(scope="module")
def stub(instances_server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(instances_server.grpc_address()) as channel:
        yield SegmentationServiceStub(channel)


def post_instances(instances_server: Server, image_id: str, **body: Any) -> httpx.Response:
    content = {"image_id": image_id, "model": "small", **LIMITS, **body}
    return instances_server.client.post(
        "/v1/instances", json={k: v for k, v in content.items() if v is not None}
    )


def find_instances(instances_server: Server, image_id: str, **body: Any) -> httpx.Response:
    answer = post_instances(instances_server, image_id, **body)
    assert answer.status_code == 200, answer.text
    return answer


def assert_refused(instances_server: Server, image_id: str, status: int, **body: Any) -> dict[str, Any]:
    answer = post_instances(instances_server, image_id, **body)
    assert answer.status_code == status, answer.text
    problem: dict[str, Any] = answer.json()
    return problem


def test_objects_with_class_score_and_both_boxes(
    instances_server: Server, image_id: str, expected: list[SegmentedObject]
) -> None:
    answer = find_instances(instances_server, image_id)
    content = answer.json()
    assert {k: v for k, v in content.items() if k != "objects"} == {
        "image_id": image_id,
        "model": "small",
        **SIZE,
    }
    assert "detect" in answer.headers["server-timing"]
    assert len(content["objects"]) == len(expected)
    for given, result in zip(content["objects"], expected, strict=True):
        assert given["class"] == result.category
        assert given["score"] == pytest.approx(result.score, abs=1e-6)
        assert np.array_equal(coco_mask.decode(given["mask"]), crop.to_mask(result.crop))
        assert given["box"] == list(crop.bounding_box(result.crop))
        assert given["area"] == crop.area(result.crop)
        assert result.box is not None
        box = [result.box.x0, result.box.y0, result.box.x1, result.box.y1]
        assert given["model_box"] == pytest.approx(box, abs=1e-3)
    scores = [item["score"] for item in content["objects"]]
    assert scores == sorted(scores, reverse=True)


READERS = {
    "png": ("image/png", imagecodecs.png_decode),
    "tiff": ("image/tiff", lambda data: tifffile.imread(io.BytesIO(data))),
    "npy": ("application/x-npy", lambda data: np.load(io.BytesIO(data))),
}


@pytest.mark.parametrize("name", READERS)
def test_the_label_map_as_a_file(
    instances_server: Server, image_id: str, expected: list[SegmentedObject], name: str
) -> None:
    media_type, read = READERS[name]
    answer = find_instances(instances_server, image_id, format=name)
    assert answer.headers["content-type"] == media_type
    drawn = label_map.from_crops([item.crop for item in expected], expected[0].crop.size)
    np.testing.assert_array_equal(read(answer.content), drawn)


def test_polygons_coco_and_an_overlay(
    instances_server: Server, image_id: str, expected: list[SegmentedObject]
) -> None:
    outlines = find_instances(instances_server, image_id, format="polygon").json()["objects"]
    assert {item["mask"]["type"] for item in outlines} <= {"Polygon", "MultiPolygon"}
    coco = find_instances(instances_server, image_id, format="coco").json()
    names = {item["id"]: item["name"] for item in coco["categories"]}
    assert [names[item["category_id"]] for item in coco["annotations"]] == [e.category for e in expected]
    overlay = imagecodecs.png_decode(find_instances(instances_server, image_id, format="overlay").content)
    nowhere = label_map.from_crops([item.crop for item in expected], expected[0].crop.size) == 0
    assert overlay.shape == PICTURE.shape
    np.testing.assert_array_equal(overlay[nowhere], PICTURE[nowhere])
    assert (overlay[~nowhere] != PICTURE[~nowhere]).any(axis=1).mean() > 0.9


def test_only_some_classes(instances_server: Server, image_id: str) -> None:
    result = find_instances(instances_server, image_id, classes=["dog"], max_objects=3).json()["objects"]
    assert [item["class"] for item in result] == ["dog"] * 3


def test_the_models_own_thresholds_apply_where_none_are_given(
    instances_server: Server, image_id: str
) -> None:
    none = dict.fromkeys(LIMITS)
    named = {"score_threshold": 0.5, "nms_threshold": 0.5, "mask_threshold": 0.5, "max_objects": 100}
    assert (
        find_instances(instances_server, image_id, **none).content
        == find_instances(instances_server, image_id, **named).content
    )


@pytest.mark.parametrize("name", ["png", "overlay", "coco", "rle", "polygon"])
def test_no_objects_is_an_answer(instances_server: Server, image_id: str, name: str) -> None:
    answer = find_instances(instances_server, image_id, score_threshold=1.0, format=name)
    if name == "png":
        assert not imagecodecs.png_decode(answer.content).any()
    elif name == "overlay":
        np.testing.assert_array_equal(imagecodecs.png_decode(answer.content), PICTURE)
    else:
        assert answer.json()["annotations" if name == "coco" else "objects"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"score_threshold": 1.5}, "score_threshold"),
        ({"score_threshold": -0.1}, "score_threshold"),
        ({"nms_threshold": 2}, "nms_threshold"),
        ({"mask_threshold": 0}, "mask_threshold"),
        ({"mask_threshold": 1}, "mask_threshold"),
        ({"max_objects": 0}, "max_objects"),
        ({"max_objects": 10**6}, "max_objects"),
        ({"classes": []}, "classes"),
        ({"format": "gif"}, "format"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_values_out_of_range_are_refused(
    instances_server: Server, image_id: str, body: dict[str, Any], field: str
) -> None:
    assert assert_refused(instances_server, image_id, 422, **body)["field"] == field


def test_an_unknown_class_is_named_with_those_that_are_known(instances_server: Server, image_id: str) -> None:
    problem = assert_refused(instances_server, image_id, 422, classes=["cat", "whale"])
    assert problem["field"] == "classes.1"
    assert "cat, dog, bird" in problem["remedy"]
    assert assert_refused(instances_server, image_id, 422, classes=["__background__"])["field"] == "classes.0"


def test_an_unknown_image_or_model_is_refused(instances_server: Server, image_id: str) -> None:
    assert assert_refused(instances_server, "0" * 64, 404)["type"].endswith("image_not_found")
    assert assert_refused(instances_server, image_id, 404, model="none")["type"].endswith("model_not_found")


def test_models_of_another_kind_are_refused_by_both_routes(instances_server: Server, image_id: str) -> None:
    problem = assert_refused(instances_server, image_id, 422, model="starter")
    assert problem["type"].endswith("wrong_model")
    assert "not objects of known classes" in problem["detail"]
    click = instances_server.click(image_id, 5, 5, model="small")
    assert click.status_code == 422
    assert click.json()["type"].endswith("wrong_model")
    assert "not prompts" in click.json()["detail"]


def test_a_request_without_a_model_names_the_usable_models(instances_server: Server, image_id: str) -> None:
    problem = assert_refused(instances_server, image_id, 422, model=None)
    assert problem["field"] == "model"
    assert problem["remedy"] == "Name one of: small."


def test_the_models_classes_are_listed(instances_server: Server) -> None:
    model = instances_server.client.get("/v1/models/small").json()
    assert (model["kind"], model["classes"]) == ("instances", list(CLASSES[1:]))


def request(image_id: str, **fields: Any) -> pb.InstancesRequest:
    return pb.InstancesRequest(image_id=image_id, model="small", **{**LIMITS, **fields})


def test_grpc_answers_what_rest_does(instances_server: Server, image_id: str, stub: Any) -> None:
    for name, tolerance in (("rle", {}), ("polygon", {}), ("polygon", {"tolerance": 2.0})):
        options = {"classes": ["cat", "dog"], **tolerance}
        rest = find_instances(instances_server, image_id, format=name, **options).json()
        answer = stub.Instances(request(image_id, format=f"RESULT_FORMAT_{name.upper()}", **options))
        assert (answer.image_id, answer.model) == (image_id, "small")
        assert (answer.width, answer.height) == (160, 120)
        assert len(answer.objects) == len(rest["objects"]) > 0
        for ours, theirs in zip(answer.objects, rest["objects"], strict=True):
            assert (ours.category, ours.area) == (theirs["class"], theirs["area"])
            assert ours.score == theirs["score"]
            assert [ours.box.x0, ours.box.y0, ours.box.x1, ours.box.y1] == theirs["box"]
            drawn = ours.model_box
            assert [drawn.x0, drawn.y0, drawn.x1, drawn.y1] == theirs["model_box"]
            mask = ours.rle.counts if name == "rle" else orjson.loads(ours.polygon)
            assert mask == (theirs["mask"]["counts"] if name == "rle" else theirs["mask"])
    for name in ("png", "tiff", "npy", "overlay", "coco"):
        rest_answer = find_instances(instances_server, image_id, format=name)
        file = stub.Instances(request(image_id, format=f"RESULT_FORMAT_{name.upper()}"))
        assert file.media_type == rest_answer.headers["content-type"]
        if name != "tiff":  # its bytes hold the time
            assert file.content == rest_answer.content
        assert not file.objects


def test_grpc_refuses_what_rest_does(image_id: str, stub: Any) -> None:
    for fields in ({"score_threshold": 7.0}, {"classes": ["whale"]}, {"format": 99}):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Instances(request(image_id, **fields))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert stub.Instances(pb.InstancesRequest(image_id=image_id, model="small")).objects


def test_the_command_line_finds_the_same(
    data: Path, picture: Path, tmp_path: Path, expected: list[SegmentedObject]
) -> None:
    options = [
        "--model",
        "small",
        "--score-threshold",
        "0.4",
        "--nms-threshold",
        "0.3",
        "--max-objects",
        "30",
    ]
    (tmp_path / "models").symlink_to(data / "models")
    output = tmp_path / "out.json"
    done = run_segserve("instances", picture, "-o", output, *options, "--data-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    result = orjson.loads(output.read_bytes())["objects"]
    assert [item["class"] for item in result] == [item.category for item in expected]
    assert "30 objects" in done.stdout
    done = run_segserve("instances", picture, "-o", tmp_path / "no.json", "--data-dir", tmp_path)
    assert done.returncode == 1
    assert "No model is named" in done.stderr
    assert not (tmp_path / "no.json").exists()


def test_instances_models_can_be_evaluated(
    data: Path, picture: Path, expected: list[SegmentedObject], tmp_path: Path
) -> None:
    from segserve.evaluate.cli import app

    for name in ("images", "truth"):
        (tmp_path / name).mkdir()
    Image.fromarray(PICTURE).save(tmp_path / "images" / "one.png")
    map_ = label_map.from_crops([item.crop for item in expected], expected[0].crop.size)
    (tmp_path / "truth" / "one.png").write_bytes(label_map.encode_png(map_))
    command = ["model", str(tmp_path / "images"), str(tmp_path / "truth"), "--method", "instances"]
    command += [f"--param={name}={value}" for name, value in LIMITS.items()]
    command += ["--model", "small", "--data-dir", str(data), "--json", str(tmp_path / "s.json")]
    app(command, standalone_mode=False)
    assert orjson.loads((tmp_path / "s.json").read_bytes())["mean"]["msa"] == 1
