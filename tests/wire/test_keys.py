"""Requests with and without keys, to a service that asks for them."""

import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segserve.identity.identity import Identity
from segserve.identity.key import create_key
from segserve.identity.key_file import change_keys
from segserve.identity.rights import Right
from segserve.types import AccessRole
from segserve.v1 import segmentation_pb2, segmentation_pb2_grpc
from tests.key_files import IDENTITIES, write_key_file
from tests.serving import Server
from tests.wire.grpc_calls import read_refusal

READER = Identity("default", AccessRole.ANNOTATOR, "reader", Right.READ)
# Replicas refuse a revoked key after so long at most.
REVOKED_AFTER_S = 5
CHANGE_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def keys(keys_file: Path) -> dict[str, str]:
    return write_key_file(keys_file, [*IDENTITIES, READER])


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, keys_file: Path, keys: dict[str, str]
) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("keyed"),
        host="0.0.0.0",
        keys_file=str(keys_file),
        grpc_port="0",
        isat_port="0",
        operator_port="0",
        cors_origins='["https://labels.example.org"]',
    )
    yield running
    assert running.stop() == 0, running.log.read_text()
    log = running.log.read_text()
    assert "internal error" not in log
    assert not any(key.rpartition("_")[2] in log for key in keys.values())


def read(service: Server, **headers: str) -> httpx.Response:
    return service.client.get("/v1/models", headers=headers)


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def test_a_key_is_taken_in_every_form(service: Server, keys: dict[str, str]) -> None:
    key = keys["annotator"]
    forms: list[dict[str, str]] = [
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"bearer  {key}"},
        {"Authorization": f"Token {key}"},
        {"Authorization": basic("anybody", key)},
        {"Authorization": basic(key, "")},
        {"X-API-Key": key},
        {"Token": key},
    ]
    for headers in forms:
        assert read(service, **headers).status_code == 200, headers


def test_nothing_else_is(service: Server, keys: dict[str, str]) -> None:
    key = keys["annotator"]
    forms: list[dict[str, str]] = [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": key},
        {"Authorization": f"Bearer {key[:-1]}"},
        {"Authorization": "Basic !"},
        {"Authorization": f"Digest {key}"},
        {"Cookie": f"key={key}"},
    ]
    with service.client_from("127.0.0.2") as client:
        for headers in forms:
            answer = client.get("/v1/models", headers=headers)
            assert answer.status_code == 401, headers
            assert answer.headers["www-authenticate"] == 'Bearer realm="segserve"'
            assert answer.json()["type"] == "urn:segserve:problem:unauthenticated"
        assert client.get(f"/v1/models?api_key={key}").status_code == 401
        # Whoever is not known learns nothing of what there is, and no body of his is read.
        assert client.get("/v1/nothing").status_code == 401
        assert client.post("/v1/images", content=b"x" * 1000).status_code == 401
        assert client.post("/v1/segment", content=b"{").status_code == 401


def test_what_is_open_needs_no_key(service: Server) -> None:
    service.wait_ready()
    for path in ("/", "/livez", "/readyz", "/docs", "/openapi.json", "/v2/health/live", "/monai/auth/"):
        assert service.client.get(path).status_code == 200, path
    assert "keys" not in service.client.get("/readyz").json()["checks"]
    assert service.client.post("/livez").status_code == 401
    assert service.client.options("/v1/models").status_code == 401
    preflight = {
        "Origin": "https://labels.example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-api-key",
    }
    assert service.client.options("/v1/segment", headers=preflight).status_code == 200


def test_roles_and_scopes(service: Server, keys: dict[str, str], nuclei: Path) -> None:
    def call(name: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {keys[name]}"}
        return service.client.request(method, path, headers=headers, **options)

    assert call("annotator", "GET", "/metrics").status_code == 403
    assert call("metrics", "GET", "/metrics").status_code == 200
    assert call("operator", "GET", "/metrics").status_code == 200
    refusal = call("metrics", "GET", "/v1/models")
    assert refusal.status_code == 403
    assert refusal.json()["type"] == "urn:segserve:problem:missing_right"
    assert "right to read" in refusal.json()["detail"]

    picture = {"file": ("nuclei.png", nuclei.read_bytes())}
    assert call("reader", "POST", "/v1/images", files=picture).status_code == 403
    answer = call("batch", "POST", "/v1/images", files=picture)
    assert answer.status_code == 201, answer.text
    path = f"/v1/images/{answer.json()['image_id']}"
    assert call("reader", "GET", path).status_code == 200
    assert call("reader", "DELETE", path).status_code == 403
    # Another tenant's image is not there, in the same words as one that never was.
    theirs, nobodys = call("stranger", "GET", path), call("stranger", "GET", f"/v1/images/{'0' * 64}")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["type"] == nobodys.json()["type"]
    assert call("stranger", "DELETE", path).status_code == 404
    prompt = {"prompts": [{"points": [[413, 190]]}]}
    assert call("stranger", "POST", f"{path}/segment", json=prompt).status_code == 404
    assert call("annotator", "POST", f"{path}/segment", json=prompt).status_code == 200
    assert call("annotator", "DELETE", path).status_code == 204


def test_frontends_refuse_in_their_own_form(service: Server, keys: dict[str, str]) -> None:
    answer = service.client.post("/x-anylabeling/v1/predict", json={}).json()
    assert answer["success"] is False
    assert answer["data"]["shapes"] == []
    assert service.client.get("/v2").json()["error"].startswith("This needs a key. Send the header")
    assert service.client.get("/label-studio/health").status_code == 401
    assert service.client.get("/monai/info/").status_code == 401
    assert read(service, Token=keys["annotator"]).status_code == 200
    with httpx.Client(base_url=service.find_address(r"isat at (http://\S+)")) as isat:
        assert isat.get("/api/info").status_code == 401
        assert isat.get("/api/info", headers={"Token": keys["metrics"]}).status_code == 403


def test_clients_of_monai_label_log_in(service: Server, keys: dict[str, str]) -> None:
    """As 3D Slicer does: the key is the password, and comes back as the token."""
    assert service.client.get("/monai/auth/").json()["enabled"] is True
    form = {"username": "anna", "password": keys["annotator"], "grant_type": "password"}
    token = service.client.post("/monai/auth/token", data=form).json()
    headers = {"Authorization": f"{token['token_type']} {token['access_token']}"}
    valid = service.client.get("/monai/auth/token/valid", headers=headers)
    assert valid.status_code == 200
    assert valid.json()["username"] == "annotator"
    wrong = service.client.post("/monai/auth/token", data={**form, "password": "wrong"})
    assert wrong.status_code == 401


def test_cvat_sends_the_key_of_its_host(service: Server, keys: dict[str, str]) -> None:
    """It calls scheme://HOST:PORT by requests, which makes Basic authentication of what stands before an @."""
    address = service.url.removeprefix("http://")
    functions = requests.get(f"http://cvat:{keys['annotator']}@{address}/cvat/api/functions", timeout=30)
    assert functions.status_code == 200
    assert requests.get(f"http://cvat:wrong@{address}/cvat/api/functions", timeout=30).status_code == 401


def test_metrics_of_the_operators_port_need_a_key_too(service: Server, keys: dict[str, str]) -> None:
    with httpx.Client(base_url=service.find_address(r"operators at (http://\S+)")) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"X-API-Key": keys["metrics"]}).status_code == 200


def test_grpc(service: Server, keys: dict[str, str]) -> None:
    request = segmentation_pb2.ListModelsRequest()
    with grpc.insecure_channel(service.grpc_address()) as channel:
        stub = segmentation_pb2_grpc.SegmentationServiceStub(channel)
        for metadata in (
            ("authorization", f"Bearer {keys['annotator']}"),
            ("x-api-key", keys["annotator"]),
            ("authorization", basic("", keys["annotator"])),
        ):
            assert stub.ListModels(request, metadata=[metadata], timeout=30).models
        code, details = read_refusal(stub.ListModels, request)
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert details["ErrorInfo"].reason == "UNAUTHENTICATED"
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListModels(request, metadata=[("x-api-key", keys["metrics"])], timeout=30)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=30).status


def test_a_revoked_key_is_refused(service: Server, keys: dict[str, str], keys_file: Path) -> None:
    key, token = create_key(Identity("default", AccessRole.ANNOTATOR, "short"))
    with change_keys(keys_file) as stored:
        stored.append(key)
    wait_for_status(service, token, 200)
    with change_keys(keys_file) as stored:
        stored.remove(key)
    wait_for_status(service, token, 401)
    assert read(service, Token=keys["annotator"]).status_code == 200


def wait_for_status(service: Server, token: str, status: int) -> None:
    end = time.monotonic() + CHANGE_TIMEOUT_S
    while (answer := read(service, Token=token)).status_code != status:
        assert time.monotonic() < end, answer.text
        time.sleep(1)


def test_guessing_is_slowed_down(service: Server, keys: dict[str, str]) -> None:
    with service.client_from("127.0.0.3") as client:
        assert client.get("/v1/models", headers={"Token": keys["annotator"]}).status_code == 200
        for number in range(100):
            answer = client.get("/v1/models", headers={"Token": f"segserve_a_{number}"})
            if answer.status_code == 429:
                break
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["type"] == "urn:segserve:problem:rate_limited"
        # A key that was right here before goes on; another one has to wait.
        assert client.get("/v1/models", headers={"Token": keys["annotator"]}).status_code == 200
        assert client.get("/v1/models", headers={"Token": keys["batch"]}).status_code == 429
    with service.client_from("127.0.0.4") as client:
        assert client.get("/v1/models", headers={"Token": keys["batch"]}).status_code == 200
