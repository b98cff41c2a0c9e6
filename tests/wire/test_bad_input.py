"""Requests that are wrong in every way: each gets a problem document that names the field and the remedy, quickly and
without growing memory, and the next good request is answered."""

import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.serving import Server
from tests.wire.responses import assert_refused


def resident_mb(server: Server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


@pytest.fixture(scope="module")
def image_id(server: Server, nuclei: Path) -> str:
    return server.upload(nuclei)


@pytest.fixture(autouse=True)
def still_serving(server: Server, image_id: str) -> Iterator[None]:
    """After each bad request memory is as before, and a good click works."""
    server.click(image_id, 413, 190)
    before = resident_mb(server)
    yield
    assert resident_mb(server) < before + 300  # 100,000 prompts take 180 before they are refused
    assert server.click(image_id, 413, 190).status_code == 200


def png_bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def upload(server: Server, data: bytes, **query: str) -> httpx.Response:
    return server.client.post("/v1/images", files={"file": ("x", data)}, params=query)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 422, "bad_input"),
        (b"this is a letter, not a picture", 415, "unsupported_format"),
        (png_bomb(50_000, 50_000), 413, "too_large"),
    ],
    ids=["empty", "not an image", "bomb"],
)
def test_unreadable_images_are_refused(server: Server, data: bytes, status: int, code: str) -> None:
    assert_refused(upload(server, data), status, code, "file")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "BMP", "TIFF"])
def test_truncated_images_are_refused(server: Server, kind: str) -> None:
    picture = io.BytesIO()
    Image.effect_noise((200, 200), 60).convert("RGB").save(picture, kind)
    answer = upload(server, picture.getvalue()[: len(picture.getvalue()) * 2 // 3])
    assert_refused(answer, 422, "bad_input", "file")


def test_an_image_over_the_size_limit_is_refused(tmp_path: Path) -> None:
    small = Server(tmp_path, max_image_mb="1")
    try:
        problem = assert_refused(upload(small, bytes(3_000_000)), 413, "too_large", "file")
        assert problem["detail"] == "The picture is over 1 MB."
        assert "SEGSERVE_MAX_IMAGE_MB" in problem["remedy"]

        def chunks() -> Iterator[bytes]:  # without Content-Length: counted while they come
            for _ in range(40):
                yield bytes(100_000)

        streamed = small.client.post("/v1/images", content=chunks(), headers={"content-type": "image/png"})
        assert assert_refused(streamed, 413, "too_large", "file") == problem
    finally:
        small.stop()


def test_a_form_without_a_file_is_refused(server: Server) -> None:
    assert_refused(server.client.post("/v1/images", files={"picture": b"x"}), 422, "bad_input", "file")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"page": "7"}, "page"),
        ({"page": "-1"}, "page"),
        ({"channels": "9"}, "channels"),
        ({"channels": "a"}, "channels"),
        ({"normalise": "magic"}, "normalise"),
        ({"normalize": "magic"}, "normalize"),
        ({"normalise": "minmax", "normalize": "percentile"}, "normalize"),
        ({"normalise": "none", "normalize": "percentile"}, "normalize"),
    ],
)
def test_reading_options_that_do_not_fit_the_file_are_refused(
    server: Server, nuclei: Path, query: dict[str, str], field: str
) -> None:
    assert_refused(upload(server, nuclei.read_bytes(), **query), 422, "bad_input", field)


def test_fetching_by_url_is_off(server: Server) -> None:
    answer = server.client.post("/v1/images", json={"url": "http://169.254.169.254/"})
    assert_refused(answer, 403, "not_allowed", "url")


def test_wrong_content_types_are_refused(server: Server, image_id: str) -> None:
    text = server.client.post("/v1/images", content=b"x", headers={"content-type": "text/plain"})
    assert_refused(text, 415, "unsupported_format", "content-type")
    body = json.dumps({"image_id": image_id, "prompts": [{"points": [[1, 1]]}]})
    form = server.client.post(
        "/v1/segment", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert_refused(form, 415, "unsupported_format", "content-type")


def segment(server: Server, image_id: str, *prompts: dict[str, Any], **body: Any) -> httpx.Response:
    content = json.dumps({"image_id": image_id, "prompts": list(prompts), **body})
    return server.client.post("/v1/segment", content=content, headers={"content-type": "application/json"})


def test_broken_json_is_refused(server: Server) -> None:
    answer = server.client.post(
        "/v1/segment", content=b'{"image_id": ', headers={"content-type": "application/json"}
    )
    assert_refused(answer, 400, "broken_json")


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ({"points": [[5000, 10]]}, "prompts.0.points.0"),
        ({"points": [[10, 10], [-1, 10]]}, "prompts.0.points.1"),
        ({"points": [[float("nan"), 10]]}, "prompts.0.points.0.0"),
        ({"points": [[10, float("inf")]]}, "prompts.0.points.0.1"),
        ({"points": [[10]]}, "prompts.0.points.0.1"),
        ({"points": [["a", 10]]}, "prompts.0.points.0.0"),
        ({"points": [[10, 10]], "labels": [1, 0]}, "prompts.0"),
        ({"points": [[10, 10]], "labels": [2]}, "prompts.0.labels.0"),
        ({"box": [50, 50, 10, 10]}, "prompts.0"),
        ({"box": [50, 50, 50, 60]}, "prompts.0"),
        ({"box": [50, 50, 60]}, "prompts.0.box.3"),
        ({"box": [50, 50, 6000, 60]}, "prompts.0.box"),
        ({}, "prompts.0"),
        ({"points": [[10, 10]], "mask": {"size": [10, 10], "counts": "d3"}}, "prompts.0.mask.size"),
        ({"points": [[10, 10]], "mask": {"size": [520, 696], "counts": "~~~"}}, "prompts.0.mask"),
        ({"points": [[10, 10]], "logits": {"size": [8, 8], "data": "AAAA"}}, "prompts.0.logits.data"),
        ({"points": [[10, 10]], "logits": {"size": [8, 8], "data": "é"}}, "prompts.0.logits.data"),
        ({"points": [[10, 10]], "colour": "red"}, "prompts.0.colour"),
    ],
)
def test_invalid_prompts_are_refused(
    server: Server, image_id: str, prompt: dict[str, Any], field: str
) -> None:
    assert_refused(segment(server, image_id, prompt), 422, "bad_input", field)


def test_too_many_prompts_and_points_are_refused(server: Server, image_id: str) -> None:
    assert_refused(segment(server, image_id), 422, "bad_input", "prompts")
    assert_refused(segment(server, image_id, *[{"points": [[1, 1]]}] * 257), 422, "bad_input", "prompts")
    assert_refused(segment(server, image_id, *[{"points": [[1, 1]]}] * 100_000), 413, "too_large", "body")
    assert_refused(
        segment(server, image_id, {"points": [[1, 1]] * 513}), 422, "bad_input", "prompts.0.points"
    )
    assert_refused(segment(server, image_id, {"points": [[1, 1]] * 1_000_000}), 413, "too_large", "body")


def test_a_body_over_the_limit_is_refused(server: Server) -> None:
    answer = server.client.post(
        "/v1/segment", content=bytes(40_000_000), headers={"content-type": "application/json"}
    )
    assert_refused(answer, 413, "too_large", "body")

    def chunks() -> Iterator[bytes]:  # without Content-Length
        for _ in range(40):
            yield b" " * 1_000_000

    streamed = server.client.post(
        "/v1/segment", content=chunks(), headers={"content-type": "application/json"}
    )
    assert_refused(streamed, 413, "too_large", "body")


def test_checking_a_list_stops_at_the_first_fault(server: Server, image_id: str) -> None:
    wrong = [{"points": [["a", "b"]] * 512}] * 10
    problem = assert_refused(segment(server, image_id, *wrong), 422, "bad_input", "prompts.0.points.0.0")
    assert len(problem["errors"]) <= 2


def test_unknown_images_models_and_masks_are_refused(server: Server, image_id: str) -> None:
    point = {"points": [[10, 10]]}
    assert_refused(segment(server, "0" * 64, point), 404, "image_not_found", "image_id")
    assert_refused(segment(server, "../../etc/passwd", point), 404, "image_not_found", "image_id")
    assert_refused(segment(server, image_id, point, model="sam9"), 404, "model_not_found", "model")
    assert_refused(segment(server, image_id, point, model="../models"), 404, "model_not_found", "model")
    assert_refused(
        segment(server, image_id, {**point, "mask_id": "none"}), 404, "mask_not_found", "prompts.0.mask_id"
    )
    assert_refused(server.client.get("/v1/images/none"), 404, "image_not_found", "image_id")
    assert_refused(server.client.get("/v1/nothing"), 404, "not_found")
    assert_refused(server.client.put("/v1/segment"), 405, "method_not_allowed")


def test_a_bundle_with_a_changed_file_is_refused(tmp_path: Path, nuclei: Path) -> None:
    import shutil

    from segserve.models.registry import BUILT_IN_MODELS

    copy = tmp_path / "models" / "changed"
    shutil.copytree(BUILT_IN_MODELS / "starter", copy)
    manifest = copy / "model.yaml"
    manifest.write_text(manifest.read_text().replace("name: starter", "name: changed"))
    with (copy / "fast_decoder.onnx").open("ab") as file:
        file.write(b"\0")
    server = Server(tmp_path)
    try:
        image_id = server.upload(nuclei)
        answer = segment(server, image_id, {"points": [[10, 10]]}, model="changed")
        assert "fast_decoder.onnx" in assert_refused(answer, 409, "broken_model")["detail"]
        assert server.click(image_id, 413, 190).status_code == 200
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("body", "field"), [(b"{", ""), (b"[]", ""), (b"{}", "kind"), (b'{"kind": "fly"}', "kind")]
)
def test_a_discriminated_body_names_the_field_at_fault(server: Server, body: bytes, field: str) -> None:
    answer = server.client.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == (400 if body == b"{" else 422), answer.text
    assert answer.json().get("field", "") == field
