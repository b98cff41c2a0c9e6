"""Find the similar over REST, gRPC and as a job, against a real service with the starter."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests.serving import Server
from tests.wire.raw_http import post_and_hang_up, wait_for
from tests.wire.responses import accepted_job_id, read_results, wait_until_ended


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("similar"), grpc_port="0")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc_address()) as channel:
        yield SegmentationServiceStub(channel)


@pytest.fixture(scope="module")
def image_id(server: Server, nuclei: Path) -> str:
    return server.upload(nuclei)


@pytest.fixture(scope="module")
def truth(server: Server, image_id: str) -> NDArray[Any]:
    """The label map by AIS, which the starter does well on this image."""
    body = {"image_id": image_id, "method": "ais", "format": "npy", "params": {"min_size": 100}}
    answer = server.client.post("/v1/automatic", json=body)
    labels: NDArray[Any] = np.load(io.BytesIO(answer.content))
    return labels


@pytest.fixture(scope="module")
def examples(server: Server, truth: NDArray[Any]) -> list[dict[str, Any]]:
    """Three nuclei as masks."""
    areas = np.bincount(truth.ravel())
    typical = np.argsort(np.abs(areas[1:] - np.median(areas[1:])))[:3] + 1
    return [{"mask": encode(truth == number)} for number in typical]


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    runs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": runs["counts"].decode()}


def post_similar(
    server: Server, image_id: str, examples: list[dict[str, Any]], **body: Any
) -> httpx.Response:
    return server.client.post(
        "/v1/similar", json={"image_id": image_id, "examples": examples, **body}, timeout=120
    )


def find(server: Server, image_id: str, examples: list[dict[str, Any]], **body: Any) -> dict[str, Any]:
    answer = post_similar(server, image_id, examples, **body)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def test_most_nuclei_are_found_from_three(
    server: Server, image_id: str, truth: NDArray[Any], examples: list[dict[str, Any]]
) -> None:
    found = find(server, image_id, examples)["objects"]
    labels = [np.bincount(truth[coco.decode(item["mask"]) > 0]).argmax() for item in found]
    assert len(set(labels) - {0}) >= 0.5 * truth.max()
    assert labels.count(0) <= 0.1 * len(labels)
    total = sum(coco.decode(item["mask"]).astype(int) for item in [*found, *examples])
    assert total.max() == 1, "no two overlap, and no example is found again"
    likenesses = [item["likeness"] for item in found]
    assert likenesses == sorted(likenesses, reverse=True)
    assert min(likenesses) >= 0.5
    assert not any(item["example"] for item in found)


def test_the_answer_is_the_same_each_time(
    server: Server, image_id: str, examples: list[dict[str, Any]]
) -> None:
    assert find(server, image_id, examples) == find(server, image_id, examples)


def test_parameters_bound_the_answer(server: Server, image_id: str, examples: list[dict[str, Any]]) -> None:
    every = find(server, image_id, examples)["objects"]
    few = find(server, image_id, examples, params={"max_objects": 4})["objects"]
    assert len(few) == 4
    shown = find(server, image_id, examples, params={"include_examples": True, "max_objects": 1})["objects"]
    assert [item["example"] for item in shown] == [True, True, True, False]
    assert [item["mask"]["counts"] for item in shown[:3]] == [item["mask"]["counts"] for item in examples]
    strict = find(server, image_id, examples, params={"min_likeness": 0.9})["objects"]
    assert 0 < len(strict) < len(every)
    none = find(server, image_id, examples, params={"min_score": 1, "rounds": 1})
    assert none["objects"] == []
    assert "Nothing like the examples" in none["hints"][0]


def test_an_example_may_be_any_prompt(server: Server, image_id: str, examples: list[dict[str, Any]]) -> None:
    box = coco.toBbox(examples[0]["mask"]).tolist()
    prompt = {"box": [box[0], box[1], box[0] + box[2], box[1] + box[3]]}
    segmented = server.client.post("/v1/segment", json={"image_id": image_id, "prompts": [prompt]}).json()
    mask = segmented["results"][0]["masks"][0]
    by_mask = find(server, image_id, [{"mask": mask["mask"]}])
    assert by_mask["objects"]
    assert find(server, image_id, [{"mask_id": mask["mask_id"]}]) == by_mask
    assert find(server, image_id, [prompt]) == by_mask


def test_the_examples_may_be_on_another_image(
    server: Server, nuclei: Path, image_id: str, examples: list[dict[str, Any]]
) -> None:
    flipped = io.BytesIO()
    Image.open(nuclei).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(flipped, "PNG")
    other = server.upload(flipped.getvalue())
    found = find(server, other, examples, example_image_id=image_id)
    assert (found["image_id"], len(found["objects"]) >= 10) == (other, True)
    job = {
        "kind": "batch",
        "input": {"image_ids": [other, image_id]},
        "params": {"operation": "similar", "options": {"examples": examples, "example_image_id": image_id}},
    }
    job_id = accepted_job_id(server.client.post("/v1/jobs", json=job))
    assert wait_until_ended(server, job_id)["state"] == "succeeded"
    lines = read_results(server, job_id)
    assert lines[0] == {"index": 0, **found}
    assert lines[1] == {"index": 1, **find(server, image_id, examples)}


def test_every_format_shows_the_same_objects(
    server: Server, image_id: str, examples: list[dict[str, Any]]
) -> None:
    masks = [coco.decode(item["mask"]) > 0 for item in find(server, image_id, examples)["objects"]]
    labels = np.load(io.BytesIO(post_similar(server, image_id, examples, format="npy").content))
    assert labels.max() == len(masks)
    assert all((labels[mask] == number).all() for number, mask in enumerate(masks, 1))
    data_set = find(server, image_id, examples, format="coco")
    assert len(data_set["annotations"]) == len(masks)
    overlay = post_similar(server, image_id, examples, format="overlay")
    assert overlay.headers["content-type"] == "image/png"


def test_grpc_answers_as_rest_does(
    server: Server, stub: Any, image_id: str, examples: list[dict[str, Any]]
) -> None:
    masks = [
        pb.Prompt(mask=pb.Rle(height=item["mask"]["size"][0], width=item["mask"]["size"][1],
                              counts=item["mask"]["counts"]))
        for item in examples
    ]  # fmt: skip
    params = pb.SimilarParams(max_objects=5, include_examples=True)
    request = pb.SimilarRequest(image_id=image_id, examples=masks, params=params)
    expected = find(server, image_id, examples, params={"max_objects": 5, "include_examples": True})
    answer = stub.Similar(request)
    assert [item.object.rle.counts for item in answer.objects] == [
        item["mask"]["counts"] for item in expected["objects"]
    ]
    assert [item.likeness for item in answer.objects] == [item["likeness"] for item in expected["objects"]]
    assert [item.example for item in answer.objects] == [True] * 3 + [False] * 5
    assert list(answer.hints) == expected.get("hints", [])
    request.format = pb.RESULT_FORMAT_NPY
    assert np.load(io.BytesIO(stub.Similar(request).content)).max() == 8
    with pytest.raises(grpc.RpcError) as refused:
        stub.Similar(pb.SimilarRequest(image_id=image_id))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"examples": []}, 422, "examples"),
        ({"examples": [{}]}, 422, "examples.0"),
        ({"examples": [{"points": [[1, 1]]}, {"points": [[5000, 1]]}]}, 422, "examples.1.points.0"),
        ({"examples": [{"mask": {"size": [5, 5], "counts": "i0"}}]}, 422, "examples.0.mask.size"),
        ({"examples": [{"mask_id": "gone"}]}, 404, "examples.0.mask_id"),
        ({"params": {"max_objects": 0}}, 422, "params.max_objects"),
        ({"params": {"min_likeness": "high"}}, 422, "params.min_likeness"),
        ({"params": {"max_size_ratio": 0.5}}, 422, "params.max_size_ratio"),
        ({"example_image_id": "nobody"}, 404, "example_image_id"),
        ({"image_id": "nobody"}, 404, "image_id"),
        ({"model": "starter-unet"}, 422, "model"),
    ],
)
def test_mistakes_are_named(
    server: Server, image_id: str, body: dict[str, Any], status: int, field: str
) -> None:
    request = {"image_id": image_id, "examples": [{"points": [[120, 80]]}], **body}
    answer = server.client.post("/v1/similar", json=request)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert answer.json()["remedy"]


def test_an_example_without_pixels_is_refused(server: Server, image_id: str) -> None:
    empty = {"mask": encode(np.zeros((520, 696), np.bool_))}
    answer = post_similar(server, image_id, [{"points": [[120, 80]]}, empty])
    assert (answer.status_code, answer.json()["field"]) == (422, "examples.1")


def test_a_search_ends_when_its_client_hangs_up(
    server: Server, image_id: str, examples: list[dict[str, Any]]
) -> None:
    everything = {"min_likeness": -1, "max_size_ratio": 100, "min_score": 0, "max_objects": 2000, "rounds": 5}
    post_and_hang_up(
        server, "/v1/similar", {"image_id": image_id, "examples": examples, "params": everything}
    )
    wait_for(lambda: "status=499" in server.log.read_text())
    assert find(server, image_id, examples, params={"rounds": 1})["objects"]
