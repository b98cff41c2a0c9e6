"""Stacks uploaded as images: the answer says how many pages there are, and that only the first one was read."""

import io
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests.serving import Server
from tests.wire.responses import accepted_job_id, read_results, wait_until_ended

PAGES = 3
PIXELS = np.random.default_rng(7).integers(0, 255, (PAGES, 40, 300), np.uint8)


def tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS, photometric="minisblack")
    return file.getvalue()


def sandboxed_tiff() -> bytes:
    """With a codec that only a sandboxed process may run."""
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS, photometric="minisblack", compression="lzma")
    return file.getvalue()


def gif() -> bytes:
    file = io.BytesIO()
    first, *others = (Image.fromarray(page) for page in PIXELS)
    first.save(file, "GIF", save_all=True, append_images=others)
    return file.getvalue()


STACKS = {"TIFF": tiff, "sandboxed TIFF": sandboxed_tiff, "GIF": gif}


def upload(server: Server, data: bytes, **query: int) -> dict[str, Any]:
    answer = server.client.post("/v1/images", content=data, params=query)
    assert answer.status_code == 201, answer.text
    image: dict[str, Any] = answer.json()
    return image


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_says_how_many_pages_it_has(server: Server, name: str) -> None:
    data = STACKS[name]()
    first, second = upload(server, data), upload(server, data, page=1)
    assert (first["page"], first["pages"]) == (0, PAGES)
    assert (second["page"], second["pages"]) == (1, PAGES)
    [hint] = first["hints"]
    assert "page 1 of 3" in hint
    assert "volume" in hint
    assert second["hints"] == []
    for image in (first, second):
        assert server.client.get(f"/v1/images/{image['image_id']}").json() == image
        assert upload(server, data, page=image["page"]) == image


def test_a_picture_has_one_page_and_no_hint(server: Server, noise: bytes) -> None:
    image = upload(server, noise)
    assert (image["page"], image["pages"], image["hints"]) == (0, 1, [])


@pytest.mark.parametrize("operation", ["automatic", "similar"])
def test_answers_on_the_first_page_say_so(server: Server, operation: str) -> None:
    box = [10.0, 10.0, 30.0, 30.0]
    options: dict[str, Any] = (
        {"format": "rle", "params": {"min_size": 5}}
        if operation == "automatic"
        else {"examples": [{"box": box}]}
    )
    for page, expected in ((0, True), (1, False)):
        image_id = upload(server, tiff(), page=page)["image_id"]
        answer = server.client.post(f"/v1/images/{image_id}/{operation}", json=options)
        assert answer.status_code == 200, answer.text
        hints = answer.json().get("hints", [])
        assert any("page 1 of 3" in hint for hint in hints) == expected
        assert ("page 1 of 3" in answer.headers.get("segserve-hints", "")) == expected


def test_a_batch_says_so_in_the_lines_of_stacks(server: Server, noise: bytes) -> None:
    ids = [upload(server, tiff())["image_id"], upload(server, noise)["image_id"]]
    body = {"kind": "batch", "input": {"image_ids": ids}, "params": {"operation": "embed"}}
    job_id = accepted_job_id(server.client.post("/v1/jobs", json=body))
    assert wait_until_ended(server, job_id)["state"] == "succeeded"
    stack, picture = read_results(server, job_id)
    assert "page 1 of 3" in stack["hints"][0]
    assert "hints" not in picture


@pytest.fixture(scope="module")
def tiling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("tiling"), tile_from_px="256", grpc_port="0")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_a_large_image_and_grpc_say_so_too(tiling_server: Server) -> None:
    with grpc.insecure_channel(tiling_server.grpc_address()) as channel:
        stub = SegmentationServiceStub(channel)
        requests = [
            pb.UploadImageRequest(options=pb.ReadOptions(page=2)),
            pb.UploadImageRequest(chunk=tiff()),
        ]
        uploaded = stub.UploadImage(iter(requests))
        assert (uploaded.page, uploaded.pages, list(uploaded.hints)) == (2, PAGES, [])
        uploaded = stub.UploadImage(iter(requests[1:]))
        assert "page 1 of 3" in uploaded.hints[0]
        stored = stub.GetImage(pb.GetImageRequest(image_id=uploaded.image_id))
        assert (stored.page, stored.pages, stored.hints) == (0, PAGES, uploaded.hints)
        found = stub.Automatic(pb.AutomaticRequest(image_id=uploaded.image_id))
        assert found.hints[0] == uploaded.hints[0]
        assert found.media_type == "image/png"
