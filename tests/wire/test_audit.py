"""Who did what to which data: REST, gRPC and frontends, each request by its own line, and no secret in any."""

import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from segserve.identity.identity import Identity
from segserve.types import AccessRole
from segserve.v1 import segmentation_pb2, segmentation_pb2_grpc
from segserve.wire.audited_routes import READING, find_action, find_call_action
from segserve.wire.route_rights import METHOD_RIGHTS, ROUTE_RIGHTS
from tests.key_files import write_key_file
from tests.serving import Server

USERS = (
    Identity("lab-a", AccessRole.ANNOTATOR, "anna"),
    Identity("lab-a", AccessRole.METRICS, "meter"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    return write_key_file(folder / "keys.json", USERS)


@pytest.fixture(scope="module")
def lines(folder: Path, keys: dict[str, str], nuclei: Path) -> list[Any]:
    """Return what a service has written by its end."""
    server = Server(
        folder / "data",
        keys_file=str(folder / "keys.json"),
        audit_log=str(folder / "audit.jsonl"),
        grpc_port="0",
    )
    try:
        send_all(server, keys, nuclei.read_bytes())
    except BaseException:
        server.stop()
        raise
    # Its last line is written though it is told to stop right after the answer.
    assert server.stop() == 0, server.log.read_text()
    log = server.log.read_text()
    assert "internal error" not in log
    assert "tenant=lab-a" in log.replace("\x1b[35m", "").replace("\x1b[0m", "").replace("\x1b[36m", "")
    assert not any(key.rpartition("_")[2] in (folder / "audit.jsonl").read_text() for key in keys.values())
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def send_all(server: Server, keys: dict[str, str], data: bytes) -> None:
    with httpx.Client(base_url=server.url, headers={"X-API-Key": keys["anna"]}, timeout=120) as anna:
        image_id = anna.post("/v1/images", files={"file": data}, headers={"X-Request-ID": "r1"}).json()[
            "image_id"
        ]
        anna.post("/v1/segment", json={"image_id": image_id, "prompts": [{"points": [[413, 190]]}]})
        anna.get(f"/v1/images/{image_id}")
        anna.get(f"/v1/images/{image_id}/preview")
        anna.get(f"/v1/images/{'0' * 64}/preview")
        job = anna.post(
            "/v1/jobs",
            json={"kind": "batch", "input": {"image_ids": [image_id]}, "params": {"operation": "embed"}},
        ).json()
        assert "job_id" in job, job
        anna.get(f"/v1/jobs/{job['job_id']}/results")
        anna.delete(f"/v1/jobs/{job['job_id']}")
        anna.put("/monai/datastore/", params={"image": "scan"}, files={"file": ("scan.png", data)})
    httpx.post(f"{server.url}/v1/login", json={"key": keys["anna"]}).raise_for_status()
    httpx.post(f"{server.url}/monai/auth/token", data={"password": keys["anna"]}).raise_for_status()
    httpx.get(f"{server.url}/v1/jobs", headers={"X-API-Key": "wrong"})
    httpx.delete(f"{server.url}/v1/images/{image_id}", headers={"X-API-Key": keys["meter"]})
    with grpc.insecure_channel(server.grpc_address()) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.DeleteImage(segmentation_pb2.DeleteImageRequest(image_id=image_id))
        stub.DeleteImage(
            segmentation_pb2.DeleteImageRequest(image_id=image_id), metadata=(("x-api-key", keys["anna"]),)
        )


def find(lines: list[Any], **fields: str) -> list[Any]:
    return [line for line in lines if all(line.get(name) == value for name, value in fields.items())]


def test_who_did_what_to_which_data(lines: list[Any]) -> None:
    [created] = find(lines, route="/v1/images")
    image_id = created["ids"]["image_id"]
    assert len(image_id) == 64
    assert created == {
        **created,
        "action": "create",
        "name": "anna",
        "tenant": "lab-a",
        "role": "annotator",
        "address": "127.0.0.1",
        "method": "POST",
        "status": "201",
        "problem": None,
        "request_id": "r1",
    }
    read, missing = find(lines, route="/v1/images/{image_id}/preview")
    assert (read["action"], read["ids"], read["status"]) == ("read", {"image_id": image_id}, "200")
    assert (missing["ids"], missing["problem"]) == ({"image_id": "0" * 64}, "image_not_found")
    [submitted] = find(lines, route="/v1/jobs", action="create")
    job_id = submitted["ids"]["job_id"]
    assert find(lines, route="/v1/jobs/{job_id}/results")[0]["ids"] == {"job_id": job_id}
    assert {"job_id": job_id} in [line["ids"] for line in find(lines, action="delete")]
    assert find(lines, route="/monai/datastore/")[0]["ids"]["image"] == "scan"


def test_refused_credentials_and_rights(lines: list[Any]) -> None:
    wrong, call = find(lines, action="authenticate", name="anonymous")
    assert (wrong["name"], wrong["tenant"], wrong["status"]) == ("anonymous", None, "401")
    assert (call["name"], call["method"], call["status"]) == ("anonymous", "gRPC", "UNAUTHENTICATED")
    [refused] = find(lines, name="meter")
    assert (refused["action"], refused["status"], refused["problem"]) == ("delete", "403", "missing_right")


def test_a_login_names_whose_it_is(lines: list[Any]) -> None:
    page, viewer = find(lines, action="authenticate", name="anna")
    assert (page["route"], page["tenant"], page["role"]) == ("/v1/login", "lab-a", "annotator")
    assert (viewer["route"], viewer["tenant"]) == ("/monai/auth/token", "lab-a")


def test_calls_of_grpc(lines: list[Any]) -> None:
    [deleted] = find(lines, method="gRPC", action="delete")
    assert (deleted["name"], deleted["status"], len(deleted["ids"]["image_id"])) == ("anna", "OK", 64)


def test_clicks_and_looks_are_not_there(lines: list[Any]) -> None:
    assert not [line for line in lines if "segment" in line["route"]]
    assert not find(lines, route="/v1/images/{image_id}", method="GET")


def test_every_route_that_changes_something_has_an_action() -> None:
    for (method, path), right in ROUTE_RIGHTS.items():
        changes = any(name in str(right).lower() for name in ("upload", "jobs", "delete", "operate"))
        assert (find_action(method, path) is not None) >= (changes and method != "GET"), (method, path)
    for method, right in METHOD_RIGHTS.items():
        changes = any(name in str(right).lower() for name in ("upload", "jobs", "delete", "operate"))
        assert (find_call_action(method) is not None) >= changes, method
    paths = {path for method, path in ROUTE_RIGHTS if method == "GET"}
    assert paths >= READING
    assert find_action("GET", "/v1/files/{file_id}/url") == "read", (
        "a signed URL hands out the bytes of a file"
    )
    assert find_action("POST", "/v1/segment") is None
    assert find_action("GET", "/no/such/route") is None
