"""The protocol by which CVAT calls serverless functions: the requests of its lambda manager, answered as its editor
reads them."""

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw

from segserve.masks import crop, rle
from segserve.models.bundle import Bundle
from segserve.models.manifest import Dims
from segserve.models.registry import BUILT_IN_MODELS
from segserve.types import ImageObjects, SegmentedObject, Size
from segserve.wire.frontends.cvat.functions import BROWSER_ID, Task, list_functions
from segserve.wire.frontends.cvat.shapes import write_mask, write_objects
from tests.serving import Server

X, Y = 413, 190  # on a nucleus of examples/nuclei.png
FRAME = Size(96, 128)
STEP_PX = 4


def to_base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def invoke(server: Server, function: str, **payload: Any) -> httpx.Response:
    """As LambdaGateway._invoke_via_dashboard does it."""
    headers = {
        "x-nuclio-project-name": "cvat",
        "x-nuclio-function-namespace": "nuclio",
        "x-nuclio-invoke-via": "domain-name",
        "x-nuclio-function-name": function,
        "x-nuclio-path": "/",
    }
    return server.client.post("/cvat/api/function_invocations", json=payload, headers=headers)


def paste(answer: dict[str, Any], size: Size) -> np.ndarray:
    """The mask as CVAT's editor makes it of the rows and their bounds."""
    left, top, right, bottom = answer["bounds"]
    mask = np.zeros((size.height, size.width), np.bool_)
    mask[top : bottom + 1, left : right + 1] = np.array(answer["mask"]) > 0
    return mask


def rest_mask(server: Server, picture: Path, **prompt: Any) -> np.ndarray:
    body = {"image_id": server.upload(picture), "prompts": [prompt]}
    answer = server.client.post("/v1/segment", json=body).json()
    size = Size(answer["height"], answer["width"])
    return rle.decode(answer["results"][0]["masks"][0]["mask"]["counts"], size)


def test_functions_are_those_of_the_models(server: Server) -> None:
    functions = server.client.get("/cvat/api/functions").json()
    kinds = {name: function["metadata"]["annotations"]["type"] for name, function in functions.items()}
    assert kinds["click.starter"] == "interactor"
    assert kinds["objects.starter"] == "detector"
    assert kinds["track.starter"] == "tracker"
    assert kinds["semantic.starter-unet"] == "detector"
    assert BROWSER_ID not in kinds  # there is no SAM of ViT-H here
    for name, function in functions.items():
        # What LambdaFunction reads of it.
        annotations = function["metadata"]["annotations"]
        assert function["metadata"]["name"] == name
        assert all(isinstance(value, str) for value in annotations.values())
        labels = json.loads(annotations["spec"])
        assert len({label["name"] for label in labels}) == len(labels)
        assert bool(labels) == (annotations["type"] == "detector")
        assert function["status"]["state"] == "ready"
        assert function["spec"]["description"]
    one = server.client.get("/cvat/api/functions/click.starter").json()
    assert one == functions["click.starter"]


def test_a_click_is_the_mask_of_rest(server: Server, nuclei: Path) -> None:
    image = to_base64(nuclei.read_bytes())
    answer = invoke(
        server, "click.starter", image=image, pos_points=[[X, Y]], neg_points=[[10, 10]], obj_bbox=[]
    )
    assert answer.status_code == 200, answer.text
    expected = rest_mask(server, nuclei, points=[[X, Y], [10, 10]], labels=[1, 0])
    np.testing.assert_array_equal(paste(answer.json(), Size(*expected.shape)), expected)
    assert len(answer.content) < expected.size / 10  # the object alone is sent


@pytest.mark.parametrize("box", [[[390, 170], [440, 215]], [[440, 215], [390, 170]], [390, 170, 440, 215]])
def test_a_box_may_be_drawn_from_any_corner(server: Server, nuclei: Path, box: Any) -> None:
    image = to_base64(nuclei.read_bytes())
    answer = invoke(server, "click.starter", image=image, pos_points=[], neg_points=[], obj_bbox=box).json()
    expected = rest_mask(server, nuclei, box=[390, 170, 440, 215])
    np.testing.assert_array_equal(paste(answer, Size(*expected.shape)), expected)


def test_a_box_may_go_beyond_the_image(server: Server, nuclei: Path) -> None:
    answer = invoke(
        server, "click.starter", image=to_base64(nuclei.read_bytes()), obj_bbox=[[-20, -20], [60, 60]]
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("function", "label"), [("objects.starter", "object"), ("semantic.starter-unet", "nucleus")]
)
def test_detectors_answer_masks_and_polygons(server: Server, nuclei: Path, function: str, label: str) -> None:
    answer = invoke(server, function, image=to_base64(nuclei.read_bytes()), threshold=0.5)
    assert answer.status_code == 200, answer.text
    shapes = answer.json()
    assert {shape["label"] for shape in shapes} == {label}
    described = server.client.get(f"/cvat/api/functions/{function}").json()
    assert label in described["metadata"]["annotations"]["spec"]
    for shape in shapes:
        assert shape["type"] == "mask"
        *pixels, left, top, right, bottom = shape["mask"]
        assert len(pixels) == (right - left + 1) * (bottom - top + 1)
        assert set(pixels) <= {0, 1}
        assert len(shape["points"]) % 2 == 0
    if function == "objects.starter":
        assert len(shapes) > 10
        drawn = Image.new("1", (700, 600))
        ImageDraw.Draw(drawn).polygon(list(zip(*[iter(shapes[0]["points"])] * 2, strict=True)), fill=1)
        *pixels, left, top, right, bottom = shapes[0]["mask"]
        mask = np.array(pixels).reshape(bottom - top + 1, -1) > 0
        inside = np.array(drawn)[top : bottom + 1, left : right + 1]
        assert (inside & mask).sum() / (inside | mask).sum() > 0.85


def draw_frame(number: int) -> bytes:
    """A bright disc that moves to the right."""
    picture = Image.new("RGB", (FRAME.width, FRAME.height), (20, 20, 20))
    x = 30 + STEP_PX * number
    ImageDraw.Draw(picture).ellipse((x, 30, x + 24, 54), fill=(200, 200, 200))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def disc_box(number: int) -> list[float]:
    x = 30 + STEP_PX * number
    return [x, 30, x + 24, 54]


def box_iou(first: list[float], second: list[float]) -> float:
    x0, y0 = np.maximum(first[:2], second[:2])
    x1, y1 = np.minimum(first[2:], second[2:])
    overlap = max(0, x1 - x0) * max(0, y1 - y0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return float(overlap / (sum(areas) - overlap))


@pytest.mark.parametrize("kind", ["rectangle", "polygon", "bare"])
def test_a_tracker_follows_a_moving_shape(server: Server, kind: str) -> None:
    x0, y0, x1, y1 = disc_box(0)
    points = [x0, y0, x1, y0, x1, y1, x0, y1] if kind == "polygon" else [x0, y0, x1, y1]
    shape: Any = points if kind == "bare" else {"type": kind, "points": points}
    begun = invoke(server, "track.starter", image=to_base64(draw_frame(0)), shapes=[shape], states=[])
    assert begun.status_code == 200, begun.text
    states = begun.json()["states"]
    assert begun.json()["shapes"] == [shape]
    for number in range(1, 6):
        # CVAT keeps the states as text, signs them, and fills shapes up with null.
        states = json.loads(json.dumps(states))
        answer = invoke(
            server, "track.starter", image=to_base64(draw_frame(number)), shapes=[None], states=states
        )
        assert answer.status_code == 200, answer.text
        states, [found] = answer.json()["states"], answer.json()["shapes"]
        points = found if kind == "bare" else found["points"]
        if kind == "polygon":
            xs, ys = points[0::2], points[1::2]
            points = [min(xs), min(ys), max(xs), max(ys)]
        assert box_iou(points, disc_box(number)) > 0.7


def test_more_masks_of_a_large_image_than_memory_has_room_for_are_refused(server: Server) -> None:
    file = io.BytesIO()
    Image.new("L", (6000, 4500), 90).save(file, "PNG")
    full = rle.encode(crop.from_mask(np.ones((4500, 6000), np.bool_)))
    state = {"type": "rectangle", "mask": {"size": [4500, 6000], "counts": full}, "bare": False}
    image = base64.b64encode(file.getvalue()).decode()
    answer = invoke(server, "track.starter", image=image, shapes=[None] * 20, states=[state] * 20)
    assert answer.status_code == 413, answer.text
    assert "512 megapixels" in answer.text


def test_a_shape_that_is_gone_is_lost(server: Server) -> None:
    shape = {"type": "rectangle", "points": disc_box(0)}
    image = to_base64(draw_frame(0))
    states = invoke(server, "track.starter", image=image, shapes=[shape]).json()["states"]
    file = io.BytesIO()
    empty = Image.new("RGB", (FRAME.width, FRAME.height), (20, 20, 20))
    ImageDraw.Draw(empty).ellipse((95, 60, 125, 90), fill=(200, 200, 200))
    empty.save(file, "PNG")
    answer = invoke(
        server, "track.starter", image=to_base64(file.getvalue()), states=[states[0], None]
    ).json()
    assert answer["shapes"][1] is None
    assert answer["states"] == [states[0], None] or answer["shapes"][0] is not None


@pytest.mark.parametrize(
    "state",
    [
        {"type": "rectangle", "mask": {"size": [4, 4], "counts": "0`0"}},
        {"type": "rectangle", "mask": {"size": [96, 128], "counts": "zzzz"}},
        {"type": "rectangle", "mask": {"size": [65536, 65536], "counts": "0"}},
        {"type": "circle", "mask": {"size": [96, 128], "counts": "0"}},
        {"type": "rectangle"},
        "?",
    ],
)
def test_states_are_not_trusted(server: Server, state: Any) -> None:
    answer = invoke(server, "track.starter", image=to_base64(draw_frame(0)), shapes=[None], states=[state])
    assert answer.status_code == 422, answer.text
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("function", "payload", "status", "words"),
    [
        ("click.none", {}, 404, "no function"),
        ("click.starter-unet", {}, 404, "no function"),
        ("click.starter", {"image": "?"}, 422, "base64"),
        ("click.starter", {"image": None}, 422, "image"),
        ("click.starter", {"pos_points": []}, 422, "marked"),
        ("click.starter", {"pos_points": [[1]]}, 422, "pos_points"),
        ("click.starter", {"pos_points": [[99999, 1]]}, 422, "outside"),
        ("click.starter", {"obj_bbox": [[1, 1]]}, 422, "no box"),
        ("click.starter", {"obj_bbox": [[5, 5], [5, 5]]}, 422, "box"),
        ("objects.starter", {"threshold": 7}, 422, "threshold"),
        ("track.starter", {"shapes": [{"type": "rectangle", "points": [1, 2]}]}, 422, "points"),
        ("track.starter", {"shapes": [[1, 2, 3, 4, 5]]}, 422, "shapes"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    server: Server, nuclei: Path, function: str, payload: dict[str, Any], status: int, words: str
) -> None:
    body = {"image": to_base64(nuclei.read_bytes()), **payload}
    answer = invoke(server, function, **body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]


def test_a_direct_call_names_no_function(server: Server) -> None:
    """With the invoke method `direct` CVAT calls a port of each function: there is one port here."""
    answer = server.client.post("/cvat/", json={})
    assert answer.status_code == 422
    assert "CVAT_NUCLIO_INVOKE_METHOD=dashboard" in answer.json()["error"]


def test_it_is_encoded_once(server: Server, noise: bytes) -> None:
    def encoded() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("segserve_encode_batch_images_sum")
        )

    before = encoded()
    for x in (5, 10, 15):
        assert invoke(server, "click.starter", image=to_base64(noise), pos_points=[[x, 9]]).status_code == 200
    mark = {"type": "point", "data": [9, 9], "label": 1}
    body = {"model": "starter", "image": to_base64(noise), "params": {"marks": [mark]}}
    assert server.client.post("/x-anylabeling/v1/predict", json=body).json()["success"]
    assert encoded() == before + 1


def test_the_plugin_gets_the_embedding_of_a_sam_of_vit_h() -> None:
    starter = Bundle(BUILT_IN_MODELS / "starter")

    def fake(name: str, architecture: str, channels: int = 256) -> Any:
        dims = Dims(embedding=(channels, 64, 64), low=256)
        manifest = starter.manifest.model_copy(update={"architecture": architecture, "dims": dims})
        return SimpleNamespace(name=name, manifest=manifest)

    def browser_model(bundles: list[Any], name: str | None) -> str | None:
        functions = [f for f in list_functions(bundles, name) if f.task is Task.EMBED]
        assert all(function.id == BROWSER_ID for function in functions)
        return functions[0].bundle.name if functions else None

    huge, base, small = fake("huge", "vit_h"), fake("base", "vit_b"), fake("small", "vit_h", 32)
    assert browser_model([base, huge], None) == "huge"
    assert browser_model([base, huge], "base") == "base"
    assert browser_model([base, small], None) is None


def test_an_empty_mask_is_one_pixel() -> None:
    answer = json.loads(write_mask(crop.empty_crop(Size(10, 20))))
    assert answer == {"mask": [[0]], "bounds": [0, 0, 0, 0]}


def test_scores_below_the_threshold_are_left_out() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 3:9] = True
    items = [SegmentedObject(crop.from_mask(mask), score, "a") for score in (0.2, 0.8)]
    items.append(SegmentedObject(crop.from_mask(mask)))
    items.append(SegmentedObject(crop.empty_crop(Size(10, 20)), 0.9, "a"))
    shapes = json.loads(write_objects(ImageObjects("i", "m", Size(10, 20), items), 0.5))
    assert [(shape["confidence"], shape["label"]) for shape in shapes] == [("0.8000", "a"), (None, "object")]
    assert shapes[0]["mask"] == [1] * 18 + [3, 2, 8, 4]
