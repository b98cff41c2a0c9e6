"""The protocol of samapi, by the requests of qupath-extension-sam: its bodies and headers, as Gson writes them."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from shapely.geometry import shape

from segserve.masks import crop
from segserve.models.bundle import Bundle
from segserve.models.registry import BUILT_IN_MODELS
from segserve.wire.frontends.qupath.bodies import AMG_PARAMETERS
from segserve.wire.frontends.qupath.choose_model import choose_model, list_weights
from segserve.wire.frontends.qupath.features import fills_view, to_feature
from tests.serving import Server

HEADERS = {"accept": "application/json", "Content-Type": "application/json; charset=utf-8"}
X, Y = 413, 190  # on a nucleus of examples/nuclei.png


def prompt_body(picture: bytes, **fields: Any) -> dict[str, Any]:
    """As SAMPromptParameters writes itself: Gson leaves out what is null."""
    image = base64.b64encode(picture).decode()
    return {"type": "vit_l", "b64img": image, "multimask_output": False, **fields}


def post(server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    return server.client.post(f"/sam/{path}", content=json.dumps(body), headers=HEADERS)


def test_a_point_gives_the_object(server: Server, nuclei: Path) -> None:
    body = prompt_body(nuclei.read_bytes(), point_coords=[[10, 10], [X, Y]], point_labels=[0, 1])
    answer = post(server, "", body)
    assert answer.status_code == 200, answer.text
    [feature] = answer.json()
    assert feature["type"] == "Feature"
    assert feature["properties"]["sam_model"] == "starter"  # no vit_l is installed here
    prompt = {"points": [[10, 10], [X, Y]], "labels": [0, 1]}
    request = {"image_id": server.upload(nuclei), "prompts": [prompt], "multimask": False}
    by_rest = server.client.post("/v1/segment", json=request).json()["results"][0]["masks"][0]
    assert shape(feature["geometry"]).area == pytest.approx(by_rest["area"], rel=0.02)  # it cuts corners
    assert feature["properties"]["quality"] == by_rest["score"]


def test_a_rectangle_with_three_candidates(server: Server, nuclei: Path) -> None:
    body = prompt_body(nuclei.read_bytes(), bbox=[390, 170, 440, 215], multimask_output=True)
    features = post(server, "", body).json()
    assert 1 < len(features) <= 3
    assert [feature["properties"]["object_idx"] for feature in features] == list(range(len(features)))


AUTOMASK = {
    "type": "vit_t",
    "points_per_side": 8,
    "points_per_batch": 64,
    "pred_iou_thresh": 0.6,
    "stability_score_thresh": 0.6,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.2,
    "crop_n_layers": 0,
    "crop_nms_thresh": 0.7,
    "crop_overlap_ratio": 0.3413333333333333,
    "crop_n_points_downscale_factor": 1,
    "min_mask_region_area": 0,
    "output_type": "Multi-mask (smallest)",
    "include_image_edge": False,
}  # as SAMAutoMaskParameters writes itself


@pytest.fixture(scope="module")
def view(nuclei: Path) -> bytes:
    """A view of some nuclei, PNG."""
    picture = io.BytesIO()
    Image.open(nuclei).convert("RGB").crop((350, 120, 480, 250)).save(picture, "PNG")
    return picture.getvalue()


def automask(server: Server, view: bytes, **fields: Any) -> list[dict[str, Any]]:
    body = {**AUTOMASK, "b64img": base64.b64encode(view).decode(), **fields}
    answer = post(server, "automask/", body)
    assert answer.status_code == 200, answer.text
    features: list[dict[str, Any]] = answer.json()
    return features


def test_automask_takes_the_parameters_of_sam(server: Server, view: bytes) -> None:
    features = automask(server, view)
    assert features
    assert all(feature["properties"]["quality"] >= 0.6 for feature in features)
    assert automask(server, view, pred_iou_thresh=1.0) == []


@pytest.mark.parametrize(
    ("output_type", "params", "raw"),
    [
        ("Single mask", {"multimask_output": False, "nms_keeps": "smallest"}, False),
        ("Single Mask", {"multimask_output": False, "nms_keeps": "smallest"}, False),  # samapi's spelling
        ("Multi-mask (all)", {"multimask_output": True, "nms_keeps": "all"}, True),
        ("Multi-mask (largest)", {"multimask_output": True, "nms_keeps": "largest"}, True),
        ("Multi-mask (smallest)", {"multimask_output": True, "nms_keeps": "smallest"}, False),
        ("Multi-mask (best quality)", {"multimask_output": True, "nms_keeps": "best"}, False),
    ],
)
def test_the_output_type_says_which_masks_count(
    server: Server, view: bytes, output_type: str, params: dict[str, Any], raw: bool
) -> None:
    features = automask(server, view, output_type=output_type, include_image_edge=True)
    ours = {name: AUTOMASK[name] for name in AMG_PARAMETERS}
    request = {
        "image_id": server.upload(view),
        "method": "amg",
        "format": "rle",
        "params": {**ours, **params},
        "raw": raw,
    }
    objects = server.client.post("/v1/automatic", json=request).json()["objects"]
    assert [feature["properties"]["quality"] for feature in features] == [item["score"] for item in objects]


def test_every_output_type_answers_other_masks(server: Server, view: bytes) -> None:
    def total_area(**fields: Any) -> float:
        return sum(shape(feature["geometry"]).area for feature in automask(server, view, **fields))

    everything = automask(server, view, output_type="Multi-mask (all)")
    assert len(everything) > 2 * len(automask(server, view))
    assert total_area(output_type="Multi-mask (largest)") > total_area()
    refused = post(
        server,
        "automask/",
        {**AUTOMASK, "b64img": base64.b64encode(view).decode(), "output_type": "Multi-mask"},
    )
    assert refused.status_code == 422
    assert "output_type" in refused.json()["detail"]


def test_a_mask_that_fills_the_view_comes_where_it_is_wanted() -> None:
    frame = np.ones((30, 40), np.bool_)
    assert fills_view(crop.from_mask(frame))
    frame[:, 0] = False
    assert not fills_view(crop.from_mask(frame))


def test_weights_are_the_models_of_the_service(server: Server, nuclei: Path) -> None:
    weights = server.client.get("/sam/weights/", params={"type": "vit_b"}).json()
    assert {"type": "vit_b", "name": "starter", "url": "segserve:starter"} in weights
    assert "starter-unet" not in {entry["name"] for entry in weights}
    for spelling in ("checkpoint_url", "checkpointUrl"):
        body = prompt_body(
            nuclei.read_bytes(), point_coords=[[X, Y]], point_labels=[1], **{spelling: "segserve:starter"}
        )
        assert post(server, "", body).status_code == 200
        missing = post(server, "", {**body, spelling: "segserve:none"})
        assert missing.status_code == 404
        assert "no model" in missing.json()["detail"]


def test_nothing_is_downloaded(server: Server, nuclei: Path) -> None:
    url = "https://example.org/sam.pth"
    register = post(server, "weights/", {"type": "vit_b", "name": "mine", "url": url})
    assert register.status_code == 403
    body = prompt_body(nuclei.read_bytes(), point_coords=[[X, Y]], point_labels=[1], checkpoint_url=url)
    assert post(server, "", body).status_code == 422
    assert server.client.get("/sam/progress/").json()["percent"] == 100
    assert server.client.get("/sam/weights/cancel/").status_code == 200
    assert server.client.get("/sam/version/").text.count(".") == 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "empty"),
        ({"bbox": [9, 9, 3, 3]}, "reversed"),
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"point_coords": [[1, 1]], "point_labels": [1, 0]}, "points"),
        ({"point_coords": [[99999, 1]], "point_labels": [1]}, "outside"),
        ({"bbox": [1, 1, 9, 9], "b64mask": "AAAA"}, "Masks"),
        ({"bbox": [1, 1, 9, 9], "b64img": "?"}, "base64"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    server: Server, nuclei: Path, fields: dict[str, Any], words: str
) -> None:
    answer = post(server, "", {**prompt_body(nuclei.read_bytes()), **fields})
    assert answer.status_code == 422, answer.text
    assert list(answer.json()) == ["detail"]
    assert words in answer.json()["detail"]


def test_paths_without_their_slash_are_none(server: Server) -> None:
    assert server.client.get("/sam/version").status_code == 404
    assert "detail" in server.client.get("/sam/version").json()


def test_holes_and_parts_are_kept() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[5:25, 5:25] = True
    mask[10:15, 10:15] = False
    mask[30:38, 40:58] = True
    feature = to_feature(crop.from_mask(mask), 0.9, 0, "starter")
    assert feature is not None
    geometry = shape(feature["geometry"])
    assert geometry.geom_type == "MultiPolygon"
    assert sum(len(part.interiors) for part in geometry.geoms) == 1
    assert geometry.area == pytest.approx(mask.sum(), abs=4)
    assert to_feature(crop.from_mask(np.zeros((4, 4), np.bool_)), 0.9, 0, "starter") is None


def test_a_type_is_an_architecture() -> None:
    starter = Bundle(BUILT_IN_MODELS / "starter")

    class Named:
        """A bundle of another architecture."""

        def __init__(self, name: str, architecture: str) -> None:
            self.name = name
            self.manifest = starter.manifest.model_copy(update={"architecture": architecture})

    bundles: Any = [starter, Named("cells", "vit_b"), Named("video", "hiera_2.1_base_plus")]
    assert choose_model(bundles, "vit_b", None, "starter") == "cells"
    assert choose_model(bundles, "sam2_bp", None, "starter") == "video"
    assert choose_model(bundles, "vit_h", None, "starter") == "starter"
    assert choose_model(bundles, "vit_h", "segserve:cells", "starter") == "cells"
    assert [entry["name"] for entry in list_weights(bundles, "sam2_bp")] == ["video", "starter", "cells"]
