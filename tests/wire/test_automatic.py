"""All objects of an image over REST and gRPC, against real services."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tifffile
from google.rpc import error_details_pb2, status_pb2
from PIL import Image
from pycocotools import mask as coco
from redis import Redis

from segserve.models.bundle import Bundle, write_manifest
from segserve.models.manifest import AisEntry, PromptableManifest
from segserve.models.registry import BUILT_IN_MODELS
from segserve.store import redis_keys
from segserve.types import DEFAULT_TENANT
from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests.conftest import ExternalRedis
from tests.serving import Server

ON_A_NUCLEUS = (413, 190)  # of examples/nuclei.png
TUNED = AisEntry(min_size=1500, center_distance_threshold=0.3)  # by a search on some validation set


def write_variant(folder: Path, name: str, *, ais: AisEntry | None = None, decoder: bool = True) -> None:
    """The starter under another name, with parameters of its own or without its automatic decoder."""
    shutil.copytree(BUILT_IN_MODELS / "starter", folder / name)
    if not decoder:
        (folder / name / "ais.onnx").unlink()
    manifest = Bundle(BUILT_IN_MODELS / "starter").expect(PromptableManifest)
    write_manifest(folder / name, manifest.model_copy(update={"name": name, "ais": ais}))


@pytest.fixture(scope="module")
def grpc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("automatic")
    write_variant(folder / "models", "plain", decoder=False)
    write_variant(folder / "models", "tuned", ais=TUNED)
    running = Server(folder, grpc_port="0")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def stub(grpc_server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(grpc_server.grpc_address()) as channel:
        yield SegmentationServiceStub(channel)


@pytest.fixture(scope="module")
def image_id(grpc_server: Server, nuclei: Path) -> str:
    return grpc_server.upload(nuclei)


def post_automatic(server: Server, image_id: str, **body: Any) -> httpx.Response:
    return server.client.post("/v1/automatic", json={"image_id": image_id, "method": "ais", **body})


def label_map(server: Server, image_id: str, **body: Any) -> np.ndarray:
    answer = post_automatic(server, image_id, format="npy", **body)
    assert answer.status_code == 200, answer.text
    labels: np.ndarray = np.load(io.BytesIO(answer.content))
    return labels


def stages(answer: httpx.Response) -> set[str]:
    return {part.split(";")[0] for part in answer.headers["server-timing"].split(", ")}


def test_all_nuclei_are_found(grpc_server: Server, image_id: str) -> None:
    labels = label_map(grpc_server, image_id)
    assert labels.shape == (520, 696)
    assert 30 <= labels.max() <= 36
    assert labels[ON_A_NUCLEUS[1], ON_A_NUCLEUS[0]] > 0
    assert labels[5, 5] == 0


def test_every_format_shows_the_same_objects(grpc_server: Server, image_id: str) -> None:
    labels = label_map(grpc_server, image_id)
    png, tiff, overlay = (post_automatic(grpc_server, image_id, format=f) for f in ("png", "tiff", "overlay"))
    assert png.headers["content-type"] == overlay.headers["content-type"] == "image/png"
    assert tiff.headers["content-type"] == "image/tiff"
    picture = Image.open(io.BytesIO(png.content))
    assert picture.mode == "I;16"
    assert np.array_equal(np.asarray(picture), labels)
    assert np.array_equal(tifffile.imread(io.BytesIO(tiff.content)), labels)
    shown = Image.open(io.BytesIO(overlay.content))
    assert (shown.mode, shown.size) == ("RGB", (696, 520))

    by_rle = post_automatic(grpc_server, image_id, format="rle").json()
    by_coco = post_automatic(grpc_server, image_id, format="coco").json()
    by_polygon = post_automatic(grpc_server, image_id, format="polygon").json()
    assert (by_rle["model"], by_rle["width"], by_rle["height"]) == ("starter", 696, 520)
    assert len(by_rle["objects"]) == len(by_coco["annotations"]) == len(by_polygon["objects"]) == labels.max()
    for index, (result, annotation) in enumerate(
        zip(by_rle["objects"], by_coco["annotations"], strict=True), start=1
    ):
        for mask in (result["mask"], annotation["segmentation"]):
            assert np.array_equal(coco.decode(mask).astype(bool), labels == index)
        assert result["area"] == annotation["area"] == (labels == index).sum()
        assert (result["score"], result["class"]) == (None, None)


def test_another_threshold_repeats_only_the_post_processing(grpc_server: Server, noise: bytes) -> None:
    image = grpc_server.upload(noise)
    decoded = grpc_server.metric('segserve_ais_maps_total{source="decoder"}')
    first = post_automatic(grpc_server, image)
    assert {"encode", "maps", "postprocess", "format"} <= stages(first)
    for params in ({"center_distance_threshold": 0.7}, {"distance_smoothing": 0.5}, {"min_size": 9}):
        assert stages(post_automatic(grpc_server, image, params=params)) == {"postprocess", "format"}
    assert grpc_server.metric('segserve_ais_maps_total{source="decoder"}') == decoded + 1


def test_parameters_do_what_they_say(grpc_server: Server, image_id: str) -> None:
    default, picky = (
        label_map(grpc_server, image_id),
        label_map(grpc_server, image_id, params={"min_size": 1500}),
    )
    assert np.bincount(picky.ravel())[1:].min() >= 1500 > np.bincount(default.ravel())[1:].min()
    assert label_map(grpc_server, image_id, params={"foreground_threshold": 1.0}).max() == 0


def test_parameters_in_the_manifest_are_the_models_defaults(grpc_server: Server, image_id: str) -> None:
    tuned = label_map(grpc_server, image_id, model="tuned")
    assert np.array_equal(tuned, label_map(grpc_server, image_id, params=TUNED.explicit_params()))
    assert not np.array_equal(tuned, label_map(grpc_server, image_id))
    overridden = label_map(grpc_server, image_id, model="tuned", params={"min_size": 0})
    assert np.array_equal(
        overridden, label_map(grpc_server, image_id, params={"center_distance_threshold": 0.3})
    )


def test_a_uniform_image_has_no_objects(grpc_server: Server) -> None:
    data = io.BytesIO()
    Image.new("L", (90, 61)).save(data, "PNG")
    image = grpc_server.upload(data.getvalue())
    assert label_map(grpc_server, image).shape == (61, 90)
    assert label_map(grpc_server, image).max() == 0
    assert post_automatic(grpc_server, image, format="rle").json()["objects"] == []
    assert post_automatic(grpc_server, image, format="coco").json()["annotations"] == []
    for picture in ("png", "tiff", "overlay"):
        assert post_automatic(grpc_server, image, format=picture).status_code == 200


@pytest.mark.parametrize(("model", "method"), [("starter", "ais"), ("plain", "amg")])
def test_without_a_method_it_is_the_models_own(
    grpc_server: Server, stub: Any, image_id: str, model: str, method: str
) -> None:
    params = {"ais": {"min_size": 400}, "amg": {"points_per_side": 4}}[method]
    body = {"image_id": image_id, "model": model, "format": "coco", "scale": 0.25}
    for more in ({}, {"params": params}):
        named = grpc_server.client.post("/v1/automatic", json={**body, **more, "method": method})
        left_out = grpc_server.client.post("/v1/automatic", json={**body, **more})
        assert left_out.status_code == 200, left_out.text
        assert left_out.content == named.content
    named = grpc_server.client.post("/v1/automatic", json={**body, "method": method})
    answer = stub.Automatic(
        pb.AutomaticRequest(image_id=image_id, model=model, format=pb.RESULT_FORMAT_COCO, scale=0.25)
    )
    assert answer.content == named.content


def test_models_say_what_they_can_do(grpc_server: Server) -> None:
    assert "ais" in grpc_server.client.get("/v1/models/starter").json()["automatic"]
    assert "ais" not in grpc_server.client.get("/v1/models/plain").json()["automatic"]


BAD: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "params of another method": (
        {"method": None, "params": {"points_per_side": 8}},
        422,
        "bad_input",
        "params.points_per_side",
    ),
    "a vast number of an unknown parameter": (
        {"method": None, "params": {"magic": [10**30, -1e308]}},
        422,
        "bad_input",
        "params.magic",
    ),
    "an unknown method": ({"method": "magic"}, 422, "bad_input", "method"),
    "a threshold over 1": (
        {"params": {"foreground_threshold": 1.1}},
        422,
        "bad_input",
        "params.foreground_threshold",
    ),
    "a threshold below 0": (
        {"params": {"center_distance_threshold": -0.1}},
        422,
        "bad_input",
        "params.center_distance_threshold",
    ),
    "a threshold of text": (
        {"params": {"boundary_distance_threshold": "0.5"}},
        422,
        "bad_input",
        "params.boundary_distance_threshold",
    ),
    "a vast sigma": ({"params": {"distance_smoothing": 1e9}}, 422, "bad_input", "params.distance_smoothing"),
    "half a pixel": ({"params": {"min_size": 0.5}}, 422, "bad_input", "params.min_size"),
    "an unknown parameter": ({"params": {"magic": 1}}, 422, "bad_input", "params.magic"),
    "the least number as a scale": ({"scale": 5e-324}, 422, "bad_input", "scale"),
    "an unknown format": ({"format": "gif"}, 422, "bad_input", "format"),
    "an unknown image": ({"image_id": "0" * 64}, 404, "image_not_found", "image_id"),
    "an unknown model": ({"model": "absent"}, 404, "model_not_found", "model"),
    "a model without the decoder": ({"model": "plain"}, 422, "no_automatic_decoder", "model"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_requests_are_refused(grpc_server: Server, image_id: str, name: str) -> None:
    body, status, code, field = BAD[name]
    answer = post_automatic(grpc_server, **{"image_id": image_id, **body})
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["field"]) == (
        status,
        f"urn:segserve:problem:{code}",
        field,
    )
    assert problem["remedy"]


def test_grpc_answers_what_rest_answers(grpc_server: Server, stub: Any, image_id: str) -> None:
    for number, name in enumerate(["png", "png", "tiff", "npy", "overlay", "coco"]):
        theirs = post_automatic(grpc_server, image_id, format=name)
        answer = stub.Automatic(pb.AutomaticRequest(image_id=image_id, format=number, ais=pb.AisParams()))
        assert (answer.content, answer.media_type) == (theirs.content, theirs.headers["content-type"])
        assert (answer.model, answer.width, answer.height) == ("starter", 696, 520)
    params = {"center_distance_threshold": 0.3, "min_size": 900, "distance_smoothing": 0.0}
    for number, name in ((6, "rle"), (7, "polygon")):
        theirs = post_automatic(grpc_server, image_id, format=name, params=params)
        request = pb.AutomaticRequest(image_id=image_id, format=number, ais=pb.AisParams(**params))
        answer, call = stub.Automatic.with_call(request)
        assert "postprocess" in dict(call.trailing_metadata())["server-timing"]
        assert len(answer.objects) == len(theirs.json()["objects"])
        for ours, their in zip(answer.objects, theirs.json()["objects"], strict=True):
            assert ours.area == their["area"]
            assert [ours.box.x0, ours.box.y0, ours.box.x1, ours.box.y1] == their["box"]
            assert not ours.HasField("score")
            if name == "rle":
                assert ours.rle.counts == their["mask"]["counts"]
            else:
                assert ours.polygon.startswith('{"type":')


def count_vertices(outline: dict[str, Any]) -> int:
    parts = outline["coordinates"] if outline["type"] == "MultiPolygon" else [outline["coordinates"]]
    return sum(len(ring) for part in parts for ring in part)


def test_a_tolerance_leaves_out_vertices_over_rest_and_grpc(
    grpc_server: Server, stub: Any, image_id: str
) -> None:
    whole, simple = (
        post_automatic(grpc_server, image_id, format="polygon", tolerance=tolerance).json()["objects"]
        for tolerance in (None, 1.0)
    )
    counts = [sum(count_vertices(item["mask"]) for item in items) for items in (whole, simple)]
    assert counts[1] < counts[0] / 2
    assert [item["area"] for item in simple] == [item["area"] for item in whole], "the mask stays"
    request = pb.AutomaticRequest(image_id=image_id, format=7, ais=pb.AisParams(), tolerance=1.0)
    ours = [json.loads(item.polygon) for item in stub.Automatic(request).objects]
    assert ours == [item["mask"] for item in simple]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("automatic", {"method": "ais"}),
        ("similar", {"examples": [{"points": [ON_A_NUCLEUS]}]}),
        ("instances", {}),
        ("semantic", {}),
    ],
)
def test_a_tolerance_is_of_polygons_only(
    grpc_server: Server, image_id: str, route: str, body: dict[str, Any]
) -> None:
    request = {"image_id": image_id, "format": "rle", "tolerance": 1.0, **body}
    answer = grpc_server.client.post(f"/v1/{route}", json=request)
    assert answer.status_code == 422
    assert "polygon" in answer.text


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.AutomaticRequest(ais=pb.AisParams(foreground_threshold=2)), "params.foreground_threshold"),
        (pb.AutomaticRequest(ais=pb.AisParams(), format=99), "format"),
        (pb.AutomaticRequest(ais=pb.AisParams(), model="plain"), "model"),
    ],
)
def test_grpc_refuses_what_rest_refuses(stub: Any, image_id: str, request_: Any, field: str) -> None:
    request_.image_id = image_id
    with pytest.raises(grpc.RpcError) as caught:
        stub.Automatic(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    metadata = dict(caught.value.trailing_metadata())
    fault = error_details_pb2.BadRequest()
    assert status_pb2.Status.FromString(metadata["grpc-status-details-bin"]).details[1].Unpack(fault)
    assert fault.field_violations[0].field == field


def test_maps_are_shared_by_replicas_and_go_with_their_image(
    tmp_path: Path, redis: ExternalRedis, nuclei: Path, noise: bytes
) -> None:
    shared = {"redis_url": redis.url, "object_store": f"file://{tmp_path}/objects"}
    (tmp_path / "objects").mkdir()
    one, other = Server(tmp_path / "1", **shared), Server(tmp_path / "2", **shared)
    one.wait_ready()
    other.wait_ready()
    image = one.upload(nuclei)
    client = Redis(unix_socket_path=str(redis.socket))
    key = redis_keys.maps(DEFAULT_TENANT, image, one.client.get("/v1/models/starter").json()["digest"])

    first = label_map(one, image)
    assert client.exists(key)
    answer = post_automatic(other, image, format="npy")
    assert stages(answer) == {"cache", "postprocess", "format"}
    assert other.metric('segserve_ais_maps_total{source="redis"}') == 1
    assert np.array_equal(np.load(io.BytesIO(answer.content)), first)

    assert one.client.delete(f"/v1/images/{image}").status_code == 204
    assert not client.exists(key)
    assert post_automatic(one, image).status_code == post_automatic(other, image).status_code == 404
    assert one.metric('segserve_cache_bytes{tier="maps"}') == 0

    again = one.upload(nuclei)
    client.set(key, b"broken")
    assert np.array_equal(label_map(one, again), first)

    image = one.upload(noise)
    assert one.click(image, 5, 5).status_code == 200
    redis.kill()
    answer = post_automatic(
        one, image, raw=True
    )  # its embedding is held; for an estimated scale others are not
    assert answer.status_code == 200
    assert "maps" in stages(answer)
    one.stop()
    other.stop()


def test_small_images_are_not_enlarged_without_end_and_the_answer_says_so(
    grpc_server: Server, stub: Any, nuclei: Path
) -> None:
    data = io.BytesIO()
    Image.open(nuclei).convert("RGB").crop((380, 160, 445, 220)).save(data, "PNG")
    image = grpc_server.upload(data.getvalue())
    answer = post_automatic(grpc_server, image, format="rle").json()
    assert answer["scale"]["scale"] == 2
    assert "enlarged" in answer["scale"]["reason"]
    assert all(item["mask"]["size"] == [60, 65] for item in answer["objects"])
    by_grpc = stub.Automatic(pb.AutomaticRequest(image_id=image, format=6, ais=pb.AisParams()))
    assert (by_grpc.scale.scale, len(by_grpc.objects)) == (2, len(answer["objects"]))
    sized = post_automatic(grpc_server, image, format="rle", object_size=32).json()
    assert sized["scale"]["object_size"] == 32
    assert post_automatic(grpc_server, image, object_size=32, scale=1).status_code == 422
    assert "scale" not in post_automatic(grpc_server, image, format="rle", raw=True).json()
    for tiny in ({"scale": 0.001}, {"object_size": 65_535}):
        refused = post_automatic(grpc_server, image, **tiny)
        assert (refused.status_code, refused.json()["field"]) == (422, "scale"), "or maps of 30 GB are made"
