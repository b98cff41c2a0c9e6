"""Semantic segmentation on a real server: every format, the areas, and all refusals."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask

pytest.importorskip("torch")

from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from segserve.wire.schemas.semantic import SemanticFormat
from tests.commands.run_command import run_segserve
from tests.semantic.bundles import Channels, write
from tests.serving import Server

SIZE = (90, 130)
RED, GREEN = (slice(10, 40), slice(20, 100)), (slice(30, 80), slice(60, 90))  # green covers red


def picture() -> np.ndarray[Any, Any]:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[RED] = (200, 0, 0)
    image[GREEN] = (0, 250, 0)
    return image


EXPECTED = np.zeros(SIZE, np.uint8)
EXPECTED[RED], EXPECTED[GREEN] = 1, 2


@pytest.fixture(scope="module")
def semantic_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("semantic")
    write(folder / "models", Channels())
    write(folder / "models", Channels(), name="fixed", fixed=True)
    write(folder / "models", Channels(), name="striped", classes=("a", "rest", "b"), background=1)
    running = Server(folder, grpc_port="0", default_semantic_model="colours")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def image_id(semantic_server: Server) -> str:
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "PNG")
    return semantic_server.upload(file.getvalue())


def post_semantic(semantic_server: Server, image_id: str, **body: Any) -> httpx.Response:
    return semantic_server.client.post("/v1/semantic", json={"image_id": image_id, **body})


def classify(semantic_server: Server, image_id: str, **body: Any) -> httpx.Response:
    answer = post_semantic(semantic_server, image_id, **body)
    assert answer.status_code == 200, answer.text
    return answer


READERS = {
    "png": ("image/png", imagecodecs.png_decode),
    "tiff": ("image/tiff", lambda data: tifffile.imread(io.BytesIO(data))),
    "npy": ("application/x-npy", lambda data: np.load(io.BytesIO(data))),
}


@pytest.mark.parametrize("name", READERS)
def test_the_class_map_as_a_file_with_its_areas_in_a_header(
    semantic_server: Server, image_id: str, name: str
) -> None:
    media_type, read = READERS[name]
    answer = classify(semantic_server, image_id, format=name, tile=[64, 64])
    assert answer.headers["content-type"] == media_type
    values = read(answer.content)
    assert values.dtype == np.uint8
    np.testing.assert_array_equal(values, EXPECTED)
    red, green = np.count_nonzero(EXPECTED == 1), np.count_nonzero(EXPECTED == 2)
    assert answer.headers["segserve-areas"] == f"1={red}, 2={green}"
    assert "network" in answer.headers["server-timing"]


def test_a_class_map_is_the_default(semantic_server: Server, image_id: str) -> None:
    np.testing.assert_array_equal(
        imagecodecs.png_decode(classify(semantic_server, image_id).content), EXPECTED
    )


def test_one_object_for_each_class_that_occurs(semantic_server: Server, image_id: str) -> None:
    answer = classify(semantic_server, image_id, format="rle").json()
    assert (answer["model"], answer["width"], answer["height"]) == ("colours", SIZE[1], SIZE[0])
    assert [item["class"] for item in answer["objects"]] == ["red", "green"]
    for value, item in enumerate(answer["objects"], start=1):
        np.testing.assert_array_equal(coco_mask.decode(item["mask"]), value == EXPECTED)
    assert [item["class"] for item in answer["classes"]] == ["red", "green", "blue"]
    assert [item["value"] for item in answer["classes"]] == [1, 2, 3]
    for value, item in enumerate(answer["classes"], start=1):
        assert item["area"] == np.count_nonzero(value == EXPECTED)
        assert item["fraction"] == pytest.approx(np.mean(value == EXPECTED))
    outlines = classify(semantic_server, image_id, format="polygon").json()["objects"]
    assert [item["mask"]["type"] for item in outlines] == ["Polygon", "Polygon"]
    rough = classify(semantic_server, image_id, format="polygon", tolerance=2.0).json()["objects"]
    lengths = [[len(item["mask"]["coordinates"][0]) for item in items] for items in (outlines, rough)]
    assert sum(lengths[1]) < sum(lengths[0]), "corners that are cut have two vertices"


def test_coco(semantic_server: Server, image_id: str) -> None:
    answer = classify(semantic_server, image_id, format="coco").json()
    assert [item["name"] for item in answer["categories"]] == ["red", "green"]
    np.testing.assert_array_equal(coco_mask.decode(answer["annotations"][1]["segmentation"]), EXPECTED == 2)


def test_an_overlay_is_the_image_with_the_classes_drawn_on_it(semantic_server: Server, image_id: str) -> None:
    drawn = imagecodecs.png_decode(classify(semantic_server, image_id, format="overlay").content)
    changed = (drawn != picture()).any(axis=2)
    np.testing.assert_array_equal(changed, EXPECTED > 0)


def test_probabilities_are_those_of_the_network(semantic_server: Server, image_id: str) -> None:
    answer = classify(semantic_server, image_id, format="probabilities", threshold=1.0)
    result = np.load(io.BytesIO(answer.content))
    expected = 1 / (1 + np.exp(-20 * (picture().transpose(2, 0, 1) / 255 - 0.5)))
    assert (result.dtype, result.shape) == (np.float16, (3, *SIZE))
    np.testing.assert_allclose(result, expected, atol=1e-3)


def test_thresholds_for_all_classes_or_for_one(semantic_server: Server, image_id: str) -> None:
    def present(**body: Any) -> list[str]:
        return [
            item["class"]
            for item in classify(semantic_server, image_id, format="rle", **body).json()["objects"]
        ]

    assert present(threshold=0.99) == ["red", "green"]  # they are 0.997 and 0.9999
    assert present(threshold=0.998) == ["green"]
    assert present(threshold=1.0) == []
    assert present(threshold={"green": 1.0}) == ["red"]


def test_post_processing(semantic_server: Server, image_id: str) -> None:
    answer = classify(semantic_server, image_id, format="npy", postprocess={"min_size": 1501})
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), np.where(EXPECTED == 2, 0, EXPECTED))
    answer = classify(semantic_server, image_id, format="npy", postprocess={"min_size": 1500})
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), EXPECTED)


def test_a_background_in_the_middle_of_the_channels(semantic_server: Server, image_id: str) -> None:
    answer = classify(semantic_server, image_id, format="npy", model="striped")
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), np.where(EXPECTED == 1, 1, 0))
    assert semantic_server.client.get("/v1/models/striped").json()["classes"] == ["a", "b"]


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "a threshold above 1": ({"threshold": 1.5}, 422, "threshold"),
    "a threshold below 0": ({"threshold": {"red": -0.1}}, 422, "threshold"),
    "an unknown class": ({"threshold": {"purple": 0.5}}, 422, "threshold"),
    "an overlap of all": ({"overlap": 1.0}, 422, "overlap"),
    "a tile of another multiple": ({"tile": [60, 64]}, 422, "tile"),
    "another tile for a fixed graph": ({"tile": [128, 128], "model": "fixed"}, 422, "tile"),
    "a negative radius": ({"postprocess": {"opening": -1}}, 422, "postprocess.opening"),
    "an unknown step": ({"postprocess": {"magic": 1}}, 422, "postprocess.magic"),
    "unknown flips": ({"tta_flips": "diagonal"}, 422, "tta_flips"),
    "a promptable model": ({"model": "starter"}, 422, "model"),
    "an unknown model": ({"model": "absent"}, 404, "model"),
    "an unknown image": ({"image_id": "absent"}, 404, "image_id"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_requests_name_the_field_at_fault(semantic_server: Server, image_id: str, name: str) -> None:
    body, status, field = REFUSED[name]
    answer = post_semantic(semantic_server, **{"image_id": image_id, **body})
    assert answer.status_code == status, answer.text
    assert answer.json()["field"].startswith(field)
    assert answer.json()["remedy"]


def test_a_semantic_model_takes_no_clicks(semantic_server: Server, image_id: str) -> None:
    answer = semantic_server.click(image_id, 5, 5, model="colours")
    assert (answer.status_code, answer.json()["field"]) == (422, "model")
    assert "classes of pixels" in answer.json()["detail"]


@pytest.fixture(scope="module")
def stub(semantic_server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(semantic_server.grpc_address()) as channel:
        yield SegmentationServiceStub(channel)


@pytest.mark.parametrize("name", SemanticFormat)
def test_grpc_answers_as_rest(
    semantic_server: Server, stub: Any, image_id: str, name: SemanticFormat
) -> None:
    by_rest = classify(
        semantic_server, image_id, format=name, tta_flips="both", tile=[64, 128], threshold={"red": 0.6}
    )
    by_grpc = stub.Semantic(
        pb.SemanticRequest(
            image_id=image_id,
            format=f"SEMANTIC_FORMAT_{name.name}",
            tta_flips="FLIPS_BOTH",
            tile=pb.TileSize(height=64, width=128),
            thresholds={"red": 0.6},
        )
    )
    assert (by_grpc.content, by_grpc.media_type) == (by_rest.content, by_rest.headers["content-type"])
    assert [(c.name, c.area) for c in by_grpc.classes] == [("red", 2100), ("green", 1500), ("blue", 0)]


def test_grpc_steps_and_refusals(stub: Any, image_id: str) -> None:
    steps = pb.Postprocess(min_size=2000, opening=0, keep_largest=True)
    result = stub.Semantic(pb.SemanticRequest(image_id=image_id, postprocess=steps))
    assert [c.area for c in result.classes] == [2100, 0, 0]
    for request, field in (
        (pb.SemanticRequest(image_id=image_id, threshold=2), "threshold"),
        (pb.SemanticRequest(image_id=image_id, threshold=0.5, thresholds={"red": 0.5}), "thresholds"),
        (
            pb.SemanticRequest(image_id=image_id, postprocess=pb.Postprocess(opening=999)),
            "postprocess.opening",
        ),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Semantic(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field in caught.value.details()


def test_the_command_line_classifies_a_file(tmp_path: Path) -> None:
    write(tmp_path / "models", Channels())
    image = tmp_path / "image.png"
    Image.fromarray(picture()).save(image)
    command = ["semantic", image, "--data-dir", tmp_path, "--model", "colours", "--tta-flips", "horizontal"]
    for name, read in (("classes.png", imagecodecs.png_decode), ("classes.npy", READERS["npy"][1])):
        done = run_segserve(*command, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(read((tmp_path / name).read_bytes()), EXPECTED)
        assert "1 red: 2100 pixels, 17.9%" in done.stdout
    refused = run_segserve(*command, "-o", tmp_path / "classes.exe")
    assert refused.returncode == 1
    assert "format" in refused.stderr
    assert not (tmp_path / "classes.exe").exists()
