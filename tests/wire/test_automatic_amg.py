"""Automatic masks over REST and gRPC, against real services and segment-anything's generator."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from segserve.automatic.parameters import AmgParams
from segserve.masks.geometry import iou
from segserve.models.bundle import Bundle
from segserve.models.manifest import AmgEntry
from segserve.models.registry import BUILT_IN_MODELS
from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests.serving import Server
from tests.wire.raw_http import post_and_hang_up, wait_for

FEW = {"points_per_side": 6, "pred_iou_thresh": 0.7, "stability_score_thresh": 0.8}
FOUND = AmgEntry(points_per_side=4, pred_iou_thresh=0.6, stability_score_thresh=0.7)


@pytest.fixture(scope="module")
def grpc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("amg")
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
    """By default the reference's own masks."""
    defaults = {"image_id": image_id, "method": "amg", "format": "rle", "raw": True}
    return server.client.post("/v1/automatic", json={**defaults, **body}, timeout=300)


def find_objects(server: Server, image_id: str, **body: Any) -> list[dict[str, Any]]:
    answer = post_automatic(server, image_id, **body)
    assert answer.status_code == 200, answer.text
    masks: list[dict[str, Any]] = answer.json()["objects"]
    return masks


def decode_mask(mask: dict[str, Any]) -> NDArray[np.bool_]:
    return coco.decode(mask).astype(np.bool_)  # type: ignore[no-any-return]


def stages(answer: httpx.Response) -> set[str]:
    return {part.split(";")[0] for part in answer.headers["server-timing"].split(", ")}


@pytest.fixture(scope="module")
def starter() -> Any:
    """The starter as a torch network, with weights rounded to fp16 and percentiles stretched as in its bundle."""
    torch: Any = pytest.importorskip("torch")

    from segserve.encode.preprocess import percentile_table
    from segserve.models.bundle import PROMPTABLE_NETWORK
    from segserve.models.export.batch_norm import fold_batch_norms
    from segserve.models.export.torch_to_onnx import round_to_fp16
    from segserve.models.networks.starter import build_starter_sam
    from segserve.models.weights import read_weights

    sam: Any = build_starter_sam()
    sam.load_state_dict(read_weights(Bundle(BUILT_IN_MODELS / "starter"))[PROMPTABLE_NETWORK])
    sam.eval()
    sam = fold_batch_norms(sam)
    round_to_fp16(sam)
    plain, at = sam.preprocess, Bundle(BUILT_IN_MODELS / "starter").manifest.preprocess.stretch_percentiles

    def preprocess(batch: Any) -> Any:
        image = batch[0].permute(1, 2, 0).numpy().astype(np.uint8)
        return plain(torch.from_numpy(percentile_table(image, at)[image]).permute(2, 0, 1)[None])

    sam.preprocess = preprocess
    return sam


@pytest.mark.parametrize(
    "crops", [{}, {"points_per_side": 3, "crop_n_layers": 1, "min_mask_region_area": 50}]
)
def test_masks_are_those_of_the_generator(
    grpc_server: Server, image_id: str, nuclei: Path, starter: Any, crops: dict[str, Any]
) -> None:
    from segment_anything import SamAutomaticMaskGenerator

    params = {**FEW, **crops}
    generator = SamAutomaticMaskGenerator(starter, **params, output_mode="coco_rle")
    theirs = generator.generate(np.asarray(Image.open(nuclei).convert("RGB")))
    ours = find_objects(grpc_server, image_id, params=params)
    assert len(ours) == len(theirs) > 3
    same = 0
    for mask, expected in zip(ours, theirs, strict=True):
        same += iou(decode_mask(mask["mask"]), decode_mask(expected["segmentation"])) >= 0.99
        assert mask["score"] == pytest.approx(expected["predicted_iou"], abs=5e-3)
    assert same >= 0.99 * len(theirs)


def test_another_threshold_does_not_run_the_decoder(grpc_server: Server, noise: bytes) -> None:
    image = grpc_server.upload(noise)
    decoded = grpc_server.metric('segserve_amg_grids_total{source="decoder"}')
    every = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
    first = post_automatic(grpc_server, image, params=every)
    assert {"encode", "decode", "filter"} <= stages(first)
    for change in (
        {"pred_iou_thresh": 0.5},
        {"stability_score_thresh": 0.5},
        {"stability_score_offset": 0.3},
        {"box_nms_thresh": 0.2},
        {"min_mask_region_area": 40},
    ):
        assert stages(post_automatic(grpc_server, image, params={**every, **change})) == {"filter", "format"}
    assert post_automatic(grpc_server, image, params=every).content == first.content
    assert grpc_server.metric('segserve_amg_grids_total{source="decoder"}') == decoded + 1
    assert "decode" in stages(post_automatic(grpc_server, image, params={**every, "points_per_side": 2}))
    far = post_automatic(grpc_server, image, params={**every, "stability_score_offset": 9.0})
    assert "decode" in stages(far), "so far below their threshold logits were not kept"


def test_parameters_do_what_they_say(grpc_server: Server, image_id: str) -> None:
    loose = find_objects(grpc_server, image_id, params={**FEW, "box_nms_thresh": 1.0})
    assert len(loose) > len(find_objects(grpc_server, image_id, params=FEW))
    picky = find_objects(grpc_server, image_id, params={**FEW, "pred_iou_thresh": 0.8})
    assert all(mask["score"] > 0.8 for mask in picky)
    scores = [mask["score"] for mask in loose]
    assert scores == sorted(scores, reverse=True)


def test_by_default_no_object_is_hidden_and_ids_do_not_follow_scores(
    grpc_server: Server, image_id: str
) -> None:
    every = find_objects(grpc_server, image_id, params=FEW)
    kept = find_objects(grpc_server, image_id, params=FEW, raw=False)
    assert 3 < len(kept) <= len(every)
    assert all(0 <= mask["score"] <= 1 for mask in kept)
    tops = [(decode_mask(mask["mask"]).any(axis=1).argmax(), mask) for mask in kept]
    assert [top for top, _ in tops] == sorted(top for top, _ in tops)
    labels = np.load(
        io.BytesIO(post_automatic(grpc_server, image_id, params=FEW, raw=False, format="npy").content)
    )
    for index, mask in enumerate(kept, 1):
        assert (labels == index).sum() >= 0.4 * mask["area"]


def test_parameters_in_the_manifest_are_the_models_defaults() -> None:
    from segserve.automatic.parameters import resolve_amg_params

    manifest: Any = Bundle(BUILT_IN_MODELS / "starter").manifest
    tuned = manifest.model_copy(update={"amg": FOUND})
    assert resolve_amg_params(tuned, AmgEntry()) == replace(AmgParams(), **FOUND.explicit_params())
    given = resolve_amg_params(tuned, AmgEntry(points_per_side=9))
    assert (given.points_per_side, given.pred_iou_thresh) == (9, 0.6)


def test_a_uniform_image_has_no_masks_and_a_label_map_of_zeros(grpc_server: Server) -> None:
    data = io.BytesIO()
    Image.new("L", (90, 61)).save(data, "PNG")
    image = grpc_server.upload(data.getvalue())
    assert find_objects(grpc_server, image, params={"points_per_side": 3}) == []
    labels = np.load(
        io.BytesIO(post_automatic(grpc_server, image, format="npy", params={"points_per_side": 3}).content)
    )
    assert labels.shape == (61, 90)
    assert not labels.any()


def test_clicks_are_answered_while_a_grid_is_decoded(
    grpc_server: Server, noise: bytes, image_id: str
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    assert grpc_server.click(image_id, 413, 190).status_code == 200
    image = grpc_server.upload(noise)
    with ThreadPoolExecutor(1) as pool:
        grid = pool.submit(post_automatic, grpc_server, image, params={"points_per_side": 12})
        clicks = 0
        while not grid.done():
            assert grpc_server.click(image_id, 413, 190).status_code == 200
            clicks += 1
        assert grid.result().status_code == 200
    assert clicks > 3


def test_a_grid_is_given_up_when_its_client_hangs_up(grpc_server: Server, noise: bytes) -> None:
    """A later grid waits for at most one batch of the abandoned one's points."""
    decoded = 'segserve_amg_grids_total{source="decoder"}'
    image, before = grpc_server.upload(noise), grpc_server.metric(decoded)
    params = {"points_per_side": 128}
    post_and_hang_up(grpc_server, "/v1/automatic", {"image_id": image, "method": "amg", "params": params})
    wait_for(lambda: "status=499" in grpc_server.log.read_text())
    assert post_automatic(grpc_server, image, params={"points_per_side": 2}).status_code == 200
    assert grpc_server.metric(decoded) == before + 1


def test_masks_are_deleted_with_their_image(grpc_server: Server, noise: bytes) -> None:
    held = grpc_server.metric('segserve_cache_entries{tier="candidates"}')
    image = grpc_server.upload(noise)
    assert (
        post_automatic(grpc_server, image, params={"points_per_side": 2, "crop_n_layers": 1}).status_code
        == 200
    )
    assert grpc_server.metric('segserve_cache_entries{tier="candidates"}') == held + 5
    assert grpc_server.client.delete(f"/v1/images/{image}").status_code == 204
    assert grpc_server.metric('segserve_cache_entries{tier="candidates"}') == held
    assert post_automatic(grpc_server, image, params={"points_per_side": 2}).status_code == 404


def test_models_list_amg(grpc_server: Server) -> None:
    assert grpc_server.client.get("/v1/models/starter").json()["automatic"] == ["ais", "amg"]


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "a threshold over 1": ({"params": {"pred_iou_thresh": 1.1}}, 422, "params.pred_iou_thresh"),
    "a threshold of text": ({"params": {"box_nms_thresh": "0.5"}}, 422, "params.box_nms_thresh"),
    "no points": ({"params": {"points_per_side": 0}}, 422, "params.points_per_side"),
    "half a point": ({"params": {"points_per_side": 2.5}}, 422, "params.points_per_side"),
    "another method's parameter": ({"params": {"min_size": 3}}, 422, "params.min_size"),
    "a negative offset": (
        {"params": {"stability_score_offset": -1.0}},
        422,
        "params.stability_score_offset",
    ),
    "a grid without points": (
        {"params": {"points_per_side": 2, "crop_n_layers": 1, "crop_n_points_downscale_factor": 8}},
        422,
        "params.crop_n_points_downscale_factor",
    ),
    "too many points": (
        {"params": {"points_per_side": 128, "crop_n_layers": 1}},
        413,
        "params.points_per_side",
    ),
    "an unknown image": ({"image_id": "0" * 64}, 404, "image_id"),
    "an unknown model": ({"model": "absent"}, 404, "model"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_requests_are_refused(grpc_server: Server, image_id: str, name: str) -> None:
    body, status, field = BAD[name]
    answer = post_automatic(grpc_server, **{"image_id": image_id, **body})
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert answer.json()["remedy"]


def test_grpc_answers_what_rest_answers(grpc_server: Server, stub: Any, image_id: str) -> None:
    theirs = find_objects(grpc_server, image_id, params=FEW)
    request = pb.AutomaticRequest(image_id=image_id, format=6, raw=True, amg=pb.AmgParams(**FEW))
    answer, call = stub.Automatic.with_call(request)
    assert "filter" in dict(call.trailing_metadata())["server-timing"]
    assert len(answer.objects) == len(theirs)
    for ours, their in zip(answer.objects, theirs, strict=True):
        assert ours.rle.counts == their["mask"]["counts"]
        assert ours.score == pytest.approx(their["score"])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Automatic(pb.AutomaticRequest(image_id=image_id, amg=pb.AmgParams(points_per_side=500)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
