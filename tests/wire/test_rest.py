"""The routes, against a real server process, as a client meets them."""

import base64
import io
import time
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco
from safetensors.numpy import load

from segserve import __version__
from segserve.masks.clean import Marks, clean_logits
from segserve.models.importers.compare_decoders import STOCK_NAMES
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Float32
from tests.serving import Server

ON_A_NUCLEUS = (413.0, 190.0)  # of examples/nuclei.png


@pytest.fixture(scope="module")
def image_id(server: Server, nuclei: Path) -> str:
    return server.upload(nuclei, model="starter")


def decode_mask(mask: dict[str, object]) -> np.ndarray:
    return coco.decode(mask).astype(bool)


def test_upload_answers_the_size_and_the_same_id_each_time(server: Server, nuclei: Path) -> None:
    first = server.client.post("/v1/images", files={"file": nuclei.read_bytes()})
    again = server.client.post(
        "/v1/images", content=nuclei.read_bytes(), headers={"content-type": "image/png"}
    )
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert (first.json()["width"], first.json()["height"]) == (696, 520)


@pytest.mark.parametrize("edge", [40, 2200], ids=["in memory", "in a temporary file"])
def test_a_16_bit_tiff_in_a_form_or_as_the_body(server: Server, edge: int) -> None:
    data = io.BytesIO()
    tifffile.imwrite(data, np.arange(edge * edge, dtype=np.uint16).reshape(edge, edge))
    for answer in (
        server.client.post("/v1/images", files={"file": data.getvalue()}),
        server.client.post("/v1/images", content=data.getvalue(), headers={"content-type": "image/tiff"}),
    ):
        assert answer.status_code == 201, answer.text
        assert answer.json()["width"] == edge


def test_masks_are_cleaned_unless_the_models_own_are_asked_for(server: Server, image_id: str) -> None:
    """The clicks lie in a grid, so that some hit no nucleus: their masks have specks."""
    removed_parts = 0
    for x, y in product(range(60, 696, 120), range(60, 520, 120)):
        body = {"select": "all", "format": "logits"}
        raw, cleaned = (
            server.click(image_id, x, y, **body, raw=raw).json()["results"][0]["masks"]
            for raw in (True, False)
        )
        scale = 128 / 696  # the starter has 128 logits for the longer side
        marks = Marks(positive=np.array([[(x + 0.5) * scale, (y + 0.5) * scale]], np.float32))
        for before, after in zip(raw, cleaned, strict=True):
            expected = clean_logits(read_logits(before["mask"]), 0, marks)
            assert np.array_equal(read_logits(after["mask"]) > 0, expected.logits > 0)
            assert before["removed_parts"] == before["filled_holes"] == 0
            assert after["removed_parts"] == expected.removed_parts
            assert after["filled_holes"] == expected.filled_holes
            removed_parts += expected.removed_parts
    assert removed_parts > 10


def read_logits(logits: dict[str, Any]) -> Float32:
    values = np.frombuffer(base64.b64decode(logits["data"]), "<f2")
    return values.reshape(logits["size"]).astype(np.float32)


def test_reading_options_make_another_image(server: Server, nuclei: Path) -> None:
    assert server.upload(nuclei) != server.upload(nuclei, normalise="percentile")


def test_normalise_may_be_spelled_normalize(server: Server, nuclei: Path) -> None:
    expected = server.upload(nuclei, normalise="percentile")
    assert server.upload(nuclei, normalize="percentile") == expected
    assert server.upload(nuclei, normalise="percentile", normalize="percentile") == expected


def test_a_click_answers_one_good_mask(server: Server, image_id: str) -> None:
    answer = server.click(image_id, *ON_A_NUCLEUS)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], body["width"], body["height"]) == ("starter", 696, 520)
    [result] = body["results"]
    [mask] = result["masks"]
    pixels = decode_mask(mask["mask"])
    assert pixels.shape == (520, 696)
    assert pixels[int(ON_A_NUCLEUS[1]), int(ON_A_NUCLEUS[0])]
    assert mask["area"] == pixels.sum()
    ys, xs = np.nonzero(pixels)
    assert mask["box"] == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert 0.3 < mask["score"] < 1.2
    assert {"decode", "postprocess", "format"} <= {
        part.split(";")[0] for part in answer.headers["server-timing"].split(", ")
    }


def test_a_tolerance_is_of_polygons_only(server: Server, image_id: str) -> None:
    answer = server.click(image_id, *ON_A_NUCLEUS, format="rle", tolerance=1.0)
    assert answer.status_code == 422
    assert "polygon" in answer.text
    assert server.click(image_id, *ON_A_NUCLEUS, format="polygon", tolerance=-1.0).status_code == 422


def test_every_format_shows_the_same_mask(server: Server, image_id: str) -> None:
    def ask(mask_format: str, **body: object) -> object:
        answer = server.click(image_id, *ON_A_NUCLEUS, format=mask_format, **body)
        return answer.json()["results"][0]["masks"][0]["mask"]

    pixels = decode_mask(ask("rle"))  # type: ignore[arg-type]
    png = Image.open(io.BytesIO(base64.b64decode(str(ask("png")))))
    assert png.mode == "1"
    assert np.array_equal(np.asarray(png), pixels)
    polygon = ask("polygon")
    assert polygon["type"] in ("Polygon", "MultiPolygon")  # type: ignore[index]
    simple = ask("polygon", tolerance=1.0)
    assert len(simple["coordinates"][0]) < len(polygon["coordinates"][0]) / 2  # type: ignore[index]
    logits = ask("logits")
    array = np.frombuffer(base64.b64decode(logits["data"]), "<f2").reshape(logits["size"])  # type: ignore[index]
    assert array.shape == (128, 128)
    assert (array > 0).any()


def test_accept_png_answers_the_picture_itself(server: Server, image_id: str) -> None:
    prompt = {"points": [ON_A_NUCLEUS]}
    body = {"image_id": image_id, "prompts": [prompt]}
    answer = server.client.post("/v1/segment", json=body, headers={"accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    mask = server.click(image_id, *ON_A_NUCLEUS).json()["results"][0]["masks"][0]["mask"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), decode_mask(mask))
    several = server.client.post(
        "/v1/segment", json={**body, "select": "all"}, headers={"accept": "image/png"}
    )
    assert several.status_code == 422
    assert several.json()["field"] == "prompts"


def test_multimask_and_select(server: Server, image_id: str) -> None:
    def scores(**body: object) -> list[float]:
        return [
            m["score"] for m in server.click(image_id, *ON_A_NUCLEUS, **body).json()["results"][0]["masks"]
        ]

    candidates = scores(select="all")
    assert len(candidates) == 3, "one positive point leaves the extent open"
    assert scores(select="best") == [max(candidates)]
    assert scores(select="first") == [candidates[0]]
    assert scores(select="first", multimask=False) == [candidates[0]], "never the single-mask token"
    single = scores(select="all", multimask=False)
    assert len(single) == 1
    assert single[0] not in candidates


def test_several_objects_are_answered_in_order(server: Server, image_id: str) -> None:
    box = [380, 160, 445, 225]
    prompts = [
        {"points": [ON_A_NUCLEUS]},
        {"box": box},
        {"points": [ON_A_NUCLEUS, (10, 10)], "labels": [1, 0], "box": box},
    ]
    together = server.client.post("/v1/segment", json={"image_id": image_id, "prompts": prompts}).json()[
        "results"
    ]
    alone = [
        server.client.post("/v1/segment", json={"image_id": image_id, "prompts": [p]}).json()["results"][0]
        for p in prompts
    ]

    def masks(results: list[dict[str, list[dict[str, object]]]]) -> list[object]:
        return [m["mask"] for result in results for m in result["masks"]]

    assert masks(together) == masks(alone)


def test_a_mask_can_be_refined_in_three_ways(server: Server, image_id: str) -> None:
    first = server.click(image_id, *ON_A_NUCLEUS, format="logits").json()["results"][0]["masks"][0]
    binary = server.click(image_id, *ON_A_NUCLEUS).json()["results"][0]["masks"][0]["mask"]
    points = {"points": [ON_A_NUCLEUS, (300, 300)], "labels": [1, 0]}

    def refine(**prior: object) -> np.ndarray:
        body = {"image_id": image_id, "prompts": [{**points, **prior}]}
        answer = server.client.post("/v1/segment", json=body)
        assert answer.status_code == 200, answer.text
        return decode_mask(answer.json()["results"][0]["masks"][0]["mask"])

    by_id, by_logits, by_mask = (
        refine(mask_id=first["mask_id"]),
        refine(logits=first["mask"]),
        refine(mask=binary),
    )
    assert np.array_equal(by_id, by_logits), "mask_id stands for the very logits"
    assert (by_id & by_mask).sum() / (by_id | by_mask).sum() > 0.5


def test_the_embedding_and_the_stock_decoder_fit_together(
    server: Server, image_id: str, tmp_path: Path
) -> None:
    """As a browser does: download both, decode there, get the mask of the service."""
    features = load(server.client.get(f"/v1/images/{image_id}/embedding").content)
    assert {array.dtype for array in features.values()} == {np.dtype(np.float16)}
    assert features["embedding"].shape == (128, 32, 32)
    path = tmp_path / "decoder.onnx"
    path.write_bytes(server.client.get("/v1/models/starter/decoder.onnx").content)
    scale = np.array([512 / 696, 383 / 520], np.float32)  # SAM scales by the rounded size, 512 x 383
    answer = OnnxGraph(path, RuntimeOptions()).run(
        {
            **{STOCK_NAMES[name]: array.astype(np.float32)[None] for name, array in features.items()},
            "point_coords": np.array([[ON_A_NUCLEUS, (0, 0)]], np.float32) * scale,
            "point_labels": np.array([[1, -1]], np.float32),
            "mask_input": np.zeros((1, 1, 128, 128), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array([520, 696], np.float32),
        }
    )
    best = 1 + answer["iou_predictions"][0, 1:].argmax()
    mask = decode_mask(server.click(image_id, *ON_A_NUCLEUS).json()["results"][0]["masks"][0]["mask"])
    decoded = answer["masks"][0, best] > 0
    assert (decoded & mask).sum() / (decoded | mask).sum() >= 0.999


def test_the_fast_decoder_is_served_as_it_runs_here(server: Server, image_id: str, tmp_path: Path) -> None:
    """What a client gets from the graphs is the service's mask, and a graph that it has is not sent again."""
    decoder = server.client.get("/v1/models/starter/decoder").json()
    graphs = {}
    for entry in decoder["graphs"]:
        address = f"/v1/models/starter/decoder/{entry['name']}"
        answer = server.client.get(address)
        assert (len(answer.content), sha256(answer.content).hexdigest()) == (entry["bytes"], entry["sha256"])
        again = server.client.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        path = tmp_path / entry["name"]
        path.write_bytes(answer.content)
        graphs[entry["name"]] = OnnxGraph(path, RuntimeOptions())
    answer = server.client.get(f"/v1/images/{image_id}/embedding")
    assert "segserve-tiled" not in answer.headers
    low = decoder["low_res"]
    inputs = {
        **{name: array.astype(np.float32)[None] for name, array in load(answer.content).items()},
        "mask_input": np.zeros((1, 1, low, low), np.float32),
        "has_mask": np.zeros(1, np.float32),
    }
    prepared: dict[str, Any] = {}
    for name in ("prepare.onnx", "prepare_fine.onnx"):
        if name in graphs:
            prepared |= graphs[name].run(inputs)
    points = {
        "point_coords": np.array([[ON_A_NUCLEUS, (0, 0)]], np.float32) * np.float32(512 / 696),
        "point_labels": np.array([[1, -1]], np.float32),
        "channels": np.array([1, 2, 3]),
    }
    few, many = (
        graphs[n].run({**prepared, **points}) for n in ("fast_decoder.onnx", "fast_decoder_many.onnx")
    )
    assert np.abs(few["low_res"] - many["low_res"]).max() < 1e-2
    body = {"image_id": image_id, "prompts": [{"points": [ON_A_NUCLEUS]}], "select": "all", "raw": True}
    masks = server.client.post("/v1/segment", json=body).json()["results"][0]["masks"]
    assert np.allclose([mask["score"] for mask in masks], few["scores"][1:], atol=1e-3)


def test_a_graph_that_is_not_there(server: Server) -> None:
    answer = server.client.get("/v1/models/starter/decoder/encoder.onnx")
    assert (answer.status_code, answer.json()["field"]) == (404, "graph")
    assert "prepare.onnx" in answer.json()["remedy"]
    assert server.client.get("/v1/models/starter-unet/decoder").status_code == 422


def test_everything_made_from_an_image_is_deleted_with_it(server: Server, noise: bytes) -> None:
    image_id = server.upload(noise)
    mask_id = server.click(image_id, 10, 10).json()["results"][0]["masks"][0]["mask_id"]
    for path in (f"/v1/images/{image_id}", "/livez", "/readyz", "/metrics", "/v1/models", "/"):
        answer = server.client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert server.client.delete(f"/v1/images/{image_id}").status_code == 204
    assert server.client.get(f"/v1/images/{image_id}").status_code == 404
    assert server.click(image_id, 10, 10).status_code == 404
    assert server.client.delete(f"/v1/images/{image_id}").status_code == 404
    assert not list((server.data_dir / "objects").rglob(f"*{image_id}*/*"))
    server.upload(noise)  # the same bytes again: the image is back, its masks are not
    body = {"image_id": image_id, "prompts": [{"points": [[10, 10]], "mask_id": mask_id}]}
    assert server.client.post("/v1/segment", json=body).status_code == 404


def test_models_are_listed(server: Server) -> None:
    [starter] = [m for m in server.client.get("/v1/models").json()["models"] if m["name"] == "starter"]
    assert starter["default"]
    assert starter["loaded"]
    assert starter["prompts"] == ["points", "boxes"]
    assert starter == server.client.get("/v1/models/starter").json()
    assert server.client.get("/v1/models/starter-unet").json()["prompts"] == []


def test_operation_routes(server: Server, image_id: str) -> None:
    assert server.client.get("/livez").json() == {"status": "alive"}
    assert server.client.get("/readyz").json() == {
        "status": "ready",
        "checks": {"models": "ok", "cache": "ok", "jobs": "ok"},
    }
    assert server.client.get("/version").json() == {"version": __version__}
    server.click(image_id, *ON_A_NUCLEUS)
    metrics = server.client.get("/metrics").text
    assert 'segserve_embedding_lookups_total{result="hit",tier="process"}' in metrics
    assert (
        'segserve_requests_total{method="POST",model="starter",problem="",route="/v1/segment",status="200"}'
        in metrics
    )
    assert f'segserve_build_info{{version="{__version__}"}} 1.0' in metrics
    assert "_created" not in metrics
    assert server.client.get("/docs").status_code == 200
    assert "/v1/segment" in server.client.get("/openapi.json").json()["paths"]


def test_probes_are_not_logged_unless_they_fail(server: Server) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert server.client.get(path, headers={"x-request-id": "probe"}).status_code == 200
    server.client.get("/version", headers={"x-request-id": "no-probe"})
    deadline = time.monotonic() + 20
    while "no-probe" not in (log := server.log.read_text()):  # a line is written after its answer
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "=probe" not in log.replace("no-probe", "")


def test_the_problem_that_was_answered_is_counted(server: Server) -> None:
    labels = 'method="GET",model="",problem="image_not_found",route="/v1/images/{image_id}",status="404"'
    line = f"segserve_requests_total{{{labels}}}"
    before = server.metric(line)
    server.client.get("/v1/images/unknown")
    deadline = time.monotonic() + 20
    while server.metric(line) != before + 1:  # counted after its answer
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_request_id_is_answered_and_logged(server: Server) -> None:
    answer = server.client.get("/v1/images/unknown", headers={"x-request-id": "annotator-7.42"})
    assert answer.headers["x-request-id"] == "annotator-7.42"
    assert "annotator-7.42" in server.log.read_text()
    made = server.client.get("/livez", headers={"x-request-id": "no spaces or\ttabs"}).headers["x-request-id"]
    assert len(made) == 16
