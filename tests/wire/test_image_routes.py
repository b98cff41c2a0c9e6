"""POST /v1/images/{image_id}/OPERATION is POST /v1/OPERATION: the image_id is in the path instead of in the body."""

from pathlib import Path
from typing import Any

import pytest

from segserve.request_limits import RequestKind
from segserve.wire.http.middleware import request_kind
from tests.serving import Server
from tests.wire.responses import assert_refused

CLICK = {"prompts": [{"points": [[413, 190]]}]}
BODIES: dict[str, dict[str, Any]] = {
    "segment": {**CLICK, "format": "polygon"},
    "segment.png": CLICK,
    "automatic": {"format": "rle"},
    "similar": {"examples": CLICK["prompts"], "params": {"max_objects": 3, "rounds": 1}},
    "semantic": {"format": "png"},
}


@pytest.fixture(scope="module")
def image_id(server: Server, nuclei: Path) -> str:
    return server.upload(nuclei)


def forget_mask_ids(content: Any) -> Any:
    """The same without `mask_id`, which each answer has of its own."""
    if isinstance(content, dict):
        return {key: forget_mask_ids(value) for key, value in content.items() if key != "mask_id"}
    return [forget_mask_ids(value) for value in content] if isinstance(content, list) else content


@pytest.mark.parametrize("operation", BODIES)
def test_both_routes_answer_the_same(server: Server, image_id: str, operation: str) -> None:
    body = BODIES[operation]
    in_body = server.client.post(f"/v1/{operation}", json={"image_id": image_id, **body})
    in_path = server.client.post(f"/v1/images/{image_id}/{operation}", json=body)
    assert in_path.status_code == 200, in_path.text
    assert in_path.headers["content-type"] == in_body.headers["content-type"]
    if in_path.headers["content-type"] == "application/json":
        assert forget_mask_ids(in_path.json()) == forget_mask_ids(in_body.json())
    else:
        assert in_path.content == in_body.content


def test_instances_are_refused_alike_without_a_model(server: Server, image_id: str) -> None:
    in_body = server.client.post("/v1/instances", json={"image_id": image_id})
    in_path = server.client.post(f"/v1/images/{image_id}/instances", json={})
    assert in_path.status_code == 422
    assert in_path.json() == in_body.json()


def test_the_body_may_repeat_the_id_and_not_contradict_it(server: Server, image_id: str) -> None:
    path = f"/v1/images/{image_id}/segment"
    assert server.client.post(path, json={**CLICK, "image_id": image_id}).status_code == 200
    answer = server.client.post(path, json={**CLICK, "image_id": "0" * 64})
    assert_refused(answer, 422, "bad_input", "image_id")


@pytest.mark.parametrize(
    ("content", "status", "code", "field"),
    [
        (b"{}", 422, "bad_input", "prompts"),
        (b" { } ", 422, "bad_input", "prompts"),
        (b"[]", 422, "bad_input", None),
        (b"null", 422, "bad_input", None),
        (b'{"prompts": [{"points": [[1, 2]]}],}', 400, "broken_json", None),
        (b'{"prompts": [{"points": [[1, 2', 400, "broken_json", None),
        (b'{"image_id" "x"}', 400, "broken_json", None),
        (b"}", 400, "broken_json", None),
        (b"", 400, "broken_json", None),
    ],
)
def test_broken_bodies_are_refused_as_by_the_other_route(
    server: Server, image_id: str, content: bytes, status: int, code: str, field: str | None
) -> None:
    path, headers = f"/v1/images/{image_id}/segment", {"content-type": "application/json"}
    assert_refused(server.client.post(path, content=content, headers=headers), status, code, field)


def test_an_unknown_image(server: Server) -> None:
    answer = server.client.post("/v1/images/nope/segment", json=CLICK)
    assert_refused(answer, 404, "image_not_found", "image_id")


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/images/abc/segment", "/v1/images/abc/segment.png"])
def test_clicks_take_the_slots_of_clicks(path: str) -> None:
    assert request_kind("POST", path) is RequestKind.CLICK


@pytest.mark.parametrize("path", ["/v1/images/abc", "/v1/images/a/b/segment", "/v1/images/abc/automatic"])
def test_other_requests_do_not(path: str) -> None:
    assert request_kind("POST", path) is RequestKind.OTHER
