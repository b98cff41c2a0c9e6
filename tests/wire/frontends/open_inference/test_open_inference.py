"""The Open Inference Protocol over HTTP, against a real server: metadata, inference with JSON and binary tensors."""

import base64
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import CollectorRegistry

from segserve.masks import rle
from segserve.metrics import Metrics
from segserve.types import Size
from segserve.wire.frontends.open_inference.statistics import describe_statistics
from tests.serving import Server

X, Y = 413, 190  # on a nucleus of examples/nuclei.png
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def pixels(nuclei: Path) -> NDArray[np.uint8]:
    return np.array(Image.open(nuclei).convert("RGB"))


def binary_request(
    inputs: dict[str, tuple[str, NDArray[Any]]], **fields: Any
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a request whose inputs all come as bytes."""
    parts = [np.ascontiguousarray(values).tobytes() for _, values in inputs.values()]
    described = [
        {
            "name": name,
            "datatype": datatype,
            "shape": list(values.shape),
            "parameters": {"binary_data_size": len(part)},
        }
        for (name, (datatype, values)), part in zip(inputs.items(), parts, strict=True)
    ]
    head = json.dumps({"inputs": described, **fields}).encode()
    return head + b"".join(parts), {LENGTH: str(len(head))}


def point_inputs(pixels: NDArray[np.uint8]) -> dict[str, tuple[str, NDArray[Any]]]:
    return {
        "image": ("UINT8", pixels),
        "point_coords": ("FP32", np.array([[[X, Y]]], np.float32)),
        "point_labels": ("INT64", np.array([[1]])),
    }


def read_answer(answer: httpx.Response) -> dict[str, NDArray[Any]]:
    """The outputs of an answer, JSON and binary."""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    rest = answer.content[length:]
    types = {"BOOL": np.bool_, "UINT8": "u1", "INT32": "<i4", "FP32": "<f4", "FP16": "<f2", "INT64": "<i8"}
    outputs = {}
    for output in json.loads(answer.content[:length])["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(output["data"])
        elif output["datatype"] == "BYTES":
            values = np.array([rest[4:size].decode()])
        else:
            values = np.frombuffer(rest[:size], types[output["datatype"]])
        rest = rest[size or 0 :]
        outputs[output["name"]] = values.reshape(output["shape"])
    assert not rest
    return outputs


def segment_by_rest(server: Server, nuclei: Path) -> NDArray[np.bool_]:
    answer = server.click(server.upload(nuclei), X, Y).json()
    counts = answer["results"][0]["masks"][0]["mask"]["counts"]
    return rle.decode(counts, Size(answer["height"], answer["width"]), "mask")


def test_the_server_describes_itself(server: Server) -> None:
    described = server.client.get("/v2").json()
    assert described["name"] == "segserve"
    assert "binary_tensor_data" in described["extensions"]
    assert server.client.get("/v2/health/live").status_code == 200
    assert server.client.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("model", ["starter", "starter-unet"])
def test_every_bundle_is_described(server: Server, model: str) -> None:
    index = server.client.post("/v2/repository/index").json()
    assert {"name": model, "version": "1", "state": "READY", "reason": ""} in index
    for path in (f"/v2/models/{model}", f"/v2/models/{model}/versions/1"):
        described = server.client.get(path).json()
        assert described["versions"] == ["1"]
        assert {"image", "image_file", "image_id"} <= {tensor["name"] for tensor in described["inputs"]}
        assert described["outputs"]
        assert server.client.get(f"{path}/ready").status_code == 200
        config = server.client.get(f"{path}/config").json()
        assert [tensor["name"] for tensor in config["output"]] == [t["name"] for t in described["outputs"]]


def test_a_click_is_that_of_rest(server: Server, nuclei: Path, pixels: NDArray[np.uint8]) -> None:
    body, headers = binary_request(point_inputs(pixels), parameters={"binary_data_output": True}, id="a")
    answer = server.client.post("/v2/models/starter/infer", content=body, headers=headers)
    outputs = read_answer(answer)
    assert outputs["masks"].shape == (1, 1, *pixels.shape[:2])
    np.testing.assert_array_equal(outputs["masks"][0, 0], segment_by_rest(server, nuclei))
    assert outputs["iou_predictions"].shape == (1, 1)
    assert outputs["low_res_masks"].ndim == 4
    assert json.loads(answer.content[: int(answer.headers[LENGTH])])["id"] == "a"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_compressed(server: Server, pixels: NDArray[np.uint8], encoding: str) -> None:
    body, headers = binary_request(point_inputs(pixels), outputs=[{"name": "iou_predictions"}])
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    headers["content-encoding"] = encoding
    answer = server.client.post("/v2/models/starter/infer", content=packed, headers=headers)
    assert list(read_answer(answer)) == ["iou_predictions"]


def test_a_body_that_unpacks_to_too_much_is_refused(server: Server) -> None:
    bomb = gzip.compress(bytes(100_000_000), 1)
    headers = {"content-encoding": "gzip"}
    answer = server.client.post("/v2/models/starter/infer", content=bomb, headers=headers)
    assert answer.status_code == 413
    assert "unpacks" in answer.json()["error"]


def test_all_in_json_with_a_file_then_its_id(server: Server, nuclei: Path) -> None:
    image = base64.b64encode(nuclei.read_bytes()).decode()
    prompt = [
        {"name": "boxes", "datatype": "FP32", "shape": [2, 4], "data": [390, 170, 440, 215, 0, 0, 30, 30]},
    ]
    wanted = {"outputs": [{"name": "iou_predictions"}, {"name": "image_id"}]}
    file = {"name": "image_file", "datatype": "BYTES", "shape": [1], "data": [image]}
    first = server.client.post("/v2/models/starter/infer", json={"inputs": [file, *prompt], **wanted})
    outputs = read_answer(first)
    assert outputs["iou_predictions"].shape == (2, 1)
    image_id = str(outputs["image_id"][0])
    assert image_id == server.upload(nuclei)
    named = {"name": "image_id", "datatype": "BYTES", "shape": [1], "data": [image_id]}
    second = server.client.post("/v2/models/starter/infer", json={"inputs": [named, *prompt], **wanted})
    np.testing.assert_array_equal(read_answer(second)["iou_predictions"], outputs["iou_predictions"])


def test_three_candidates_and_a_mask_to_refine(server: Server, pixels: NDArray[np.uint8]) -> None:
    fields: dict[str, Any] = {
        "parameters": {"multimask_output": True, "binary_data_output": True},
    }
    body, headers = binary_request(point_inputs(pixels), **fields)
    outputs = read_answer(server.client.post("/v2/models/starter/infer", content=body, headers=headers))
    assert outputs["masks"].shape[:2] == (1, 3)
    best = int(outputs["iou_predictions"][0].argmax())
    inputs = point_inputs(pixels)
    inputs["mask_input"] = ("FP32", outputs["low_res_masks"][:, best])
    body, headers = binary_request(inputs, outputs=[{"name": "masks", "parameters": {"binary_data": True}}])
    refined = read_answer(server.client.post("/v2/models/starter/infer", content=body, headers=headers))
    both = refined["masks"][0, 0] & outputs["masks"][0, best]
    assert both.sum() > 0.5 * outputs["masks"][0, best].sum()


def test_points_without_a_meaning_fill_up(server: Server, pixels: NDArray[np.uint8], nuclei: Path) -> None:
    inputs = point_inputs(pixels)
    inputs["point_coords"] = ("FP32", np.array([[[X, Y], [0, 0]]], np.float32))
    inputs["point_labels"] = ("INT64", np.array([[1, -1]]))
    body, headers = binary_request(inputs, outputs=[{"name": "masks", "parameters": {"binary_data": True}}])
    outputs = read_answer(server.client.post("/v2/models/starter/infer", content=body, headers=headers))
    np.testing.assert_array_equal(outputs["masks"][0, 0], segment_by_rest(server, nuclei))


def test_without_prompts_all_objects_are_found(server: Server, pixels: NDArray[np.uint8]) -> None:
    image = {"image": ("UINT8", pixels[np.newaxis])}
    body, headers = binary_request(image, parameters={"binary_data_output": True})
    outputs = read_answer(server.client.post("/v2/models/starter/infer", content=body, headers=headers))
    assert outputs["labels"].shape == pixels.shape[:2]
    assert outputs["labels"].max() > 10


def test_a_class_for_every_pixel(server: Server, pixels: NDArray[np.uint8]) -> None:
    body, headers = binary_request(
        {"image": ("UINT8", pixels)},
        parameters={"binary_data_output": True, "threshold": 0.5},
        outputs=[{"name": "classes"}, {"name": "probabilities"}],
    )
    outputs = read_answer(server.client.post("/v2/models/starter-unet/infer", content=body, headers=headers))
    assert outputs["classes"].shape == pixels.shape[:2]
    assert outputs["probabilities"].shape[1:] == pixels.shape[:2]


def test_pixels_sent_again_are_recognised(server: Server, pixels: NDArray[np.uint8]) -> None:
    def recognised() -> float:
        return server.metric('segserve_frontend_images_total{source="recognised"}')

    body, headers = binary_request(point_inputs(pixels), outputs=[{"name": "iou_predictions"}])
    server.client.post("/v2/models/starter/infer", content=body, headers=headers)
    before = recognised()
    for _ in range(3):
        server.client.post("/v2/models/starter/infer", content=body, headers=headers)
    assert recognised() == before + 3


def test_an_image_that_was_deleted_is_stored_again(server: Server, noise: bytes) -> None:
    image = {
        "name": "image_file",
        "datatype": "BYTES",
        "shape": [1],
        "data": [base64.b64encode(noise).decode()],
    }
    point = {"name": "point_coords", "datatype": "FP32", "shape": [1, 2], "data": [5, 5]}
    body = {"inputs": [image, point], "outputs": [{"name": "image_id"}]}
    image_id = read_answer(server.client.post("/v2/models/starter/infer", json=body))["image_id"][0]
    assert server.client.delete(f"/v1/images/{image_id}").status_code == 204
    assert read_answer(server.client.post("/v2/models/starter/infer", json=body))["image_id"][0] == image_id


def test_statistics_read_no_other_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """All metrics take some ten milliseconds, and a model has ten values."""
    metrics = Metrics()
    metrics.frontends.record_inference("a", "success", {"all": 2.5, "input": 0.5})
    metrics.frontends.record_inference("b", "fail", {"all": 1.0})
    monkeypatch.setattr(CollectorRegistry, "collect", None)
    statistics = describe_statistics(metrics.frontends, "a")
    assert statistics["inference_count"] == 1
    assert statistics["last_inference"] > 0
    assert statistics["inference_stats"]["success"] == {"count": 1, "ns": 2_500_000_000}
    assert statistics["inference_stats"]["compute_input"] == {"count": 1, "ns": 500_000_000}
    assert statistics["inference_stats"]["fail"] == {"count": 0, "ns": 0}
    assert describe_statistics(metrics.frontends, "c")["last_inference"] == 0


def test_statistics_count(server: Server, pixels: NDArray[np.uint8]) -> None:
    def read() -> dict[str, Any]:
        statistics: dict[str, Any] = server.client.get("/v2/models/starter/stats").json()["model_stats"][0]
        return statistics

    before = read()
    body, headers = binary_request(point_inputs(pixels), outputs=[{"name": "iou_predictions"}])
    server.client.post("/v2/models/starter/infer", content=body, headers=headers)
    server.client.post("/v2/models/starter/infer", json={"inputs": []})
    after = read()
    assert after["inference_count"] == before["inference_count"] + 1
    stats = after["inference_stats"]
    assert stats["fail"]["count"] == before["inference_stats"]["fail"]["count"] + 1
    parts = sum(stats[name]["ns"] for name in ("compute_input", "compute_infer", "compute_output"))
    assert 0 < parts <= stats["success"]["ns"]
    assert after["last_inference"] > 1_000_000_000_000  # milliseconds
    names = [model["name"] for model in server.client.get("/v2/models/stats").json()["model_stats"]]
    assert "starter" in names


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


GREY = tensor("image", "UINT8", [2, 2], [0, 0, 0, 0])
POINT = tensor("point_coords", "FP32", [1, 1, 2], [1, 1])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "0 images"),
        ([GREY, tensor("image_id", "BYTES", [1], ["x"])], "2 images"),
        ([tensor("image", "FP32", [2, 2, 3], [0.0] * 12)], "no image"),
        ([tensor("image", "UINT8", [2, 2, 4], [0] * 16)], "no image"),
        ([tensor("image_file", "BYTES", [1], ["!!"])], "base64"),
        ([tensor("image_file", "BYTES", [1], ["AAAA"])], "image"),
        ([GREY, tensor("dots", "FP32", [1], [1])], "dots"),
        ([GREY, POINT, tensor("point_labels", "INT64", [1, 1], [7])], "label"),
        ([GREY, POINT, tensor("point_labels", "INT64", [1, 2], [1, 1])], "label"),
        ([GREY, POINT, tensor("boxes", "FP32", [2, 4], [0, 0, 1, 1] * 2)], "1 and 2 objects"),
        ([GREY, tensor("point_coords", "FP32", [1, 1, 3], [1, 1, 1])], "point_coords"),
        ([GREY, tensor("boxes", "FP32", [1, 4], [1, 1, 0, 0])], "reversed"),
        ([{**GREY, "data": None}], "no data"),
        ([{**GREY, "parameters": {"binary_data_size": 99}}], "binary_data_size"),
    ],
)
def test_bad_tensors_are_refused(server: Server, inputs: list[Any], words: str) -> None:
    answer = server.client.post("/v2/models/starter/infer", json={"inputs": inputs})
    assert answer.status_code in (415, 422), answer.text
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("point_coords", (1 << 29, 0, 2)),  # no values, and yet half a billion objects
        ("point_coords", (257, 1, 2)),
        ("point_coords", (1, 513, 2)),
        ("boxes", (257, 4)),
        ("mask_input", (1 << 20, 0, 256)),
    ],
)
def test_more_prompts_than_an_image_takes_are_refused_at_once(
    server: Server, pixels: NDArray[np.uint8], name: str, shape: tuple[int, ...]
) -> None:
    inputs = {"image": ("UINT8", pixels), name: ("FP32", np.zeros(shape, np.float32))}
    body, headers = binary_request(inputs)
    answer = server.client.post("/v2/models/starter/infer", content=body, headers=headers)
    assert answer.status_code == 413, answer.text
    assert f"{name!r} has {shape[0]} objects" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v2/models/none/infer", b'{"inputs": []}', {}, 404),
        ("/v2/models/starter/versions/2/infer", b'{"inputs": []}', {}, 404),
        ("/v2/models/starter/infer", b"{", {}, 422),
        ("/v2/models/starter/infer", b"[]", {}, 422),
        ("/v2/models/starter/infer", b"{}", {LENGTH: "9"}, 422),
        ("/v2/models/starter/infer", b"{}", {LENGTH: "-1"}, 422),
        ("/v2/models/starter/infer", b"{}", {"content-encoding": "br"}, 415),
        ("/v2/models/starter/infer", b"{}", {"content-encoding": "gzip"}, 422),
        ("/v2/none", b"", {}, 404),
    ],
)
def test_bad_requests_are_refused(
    server: Server, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = server.client.post(path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
