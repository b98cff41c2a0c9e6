"""/v1/tenants through a service: a tenant is deleted though the service is killed right after the request."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from segserve.identity.identity import Identity
from segserve.types import AccessRole
from tests.key_files import write_key_file
from tests.serving import Server

USERS = (
    Identity("lab-a", AccessRole.ANNOTATOR, "anna"),
    Identity("lab-b", AccessRole.ANNOTATOR, "bert"),
    Identity("default", AccessRole.OPERATOR, "olga"),
)
TIMEOUT_S = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def keys(folder: Path) -> dict[str, dict[str, str]]:
    tokens = write_key_file(folder / "keys.json", USERS)
    return {name: {"X-API-Key": token} for name, token in tokens.items()}


@pytest.fixture
def start(folder: Path, keys: object) -> Iterator[object]:
    running = list[Server]()

    def begin() -> Server:
        running.append(Server(folder / "data", keys_file=str(folder / "keys.json")))
        return running[-1]

    yield begin
    assert running[-1].stop() == 0, running[-1].log.read_text()


def test_a_tenant_is_deleted_whatever_is_killed(
    folder: Path, keys: dict[str, dict[str, str]], start: object, nuclei: Path
) -> None:
    assert callable(start)
    server, data = start(), nuclei.read_bytes()
    anna, bert, olga = (keys[name] for name in ("anna", "bert", "olga"))

    def upload(sender: dict[str, str], extra: bytes = b"") -> httpx.Response:
        return httpx.post(f"{server.url}/v1/images", files={"file": data + extra}, headers=sender, timeout=60)

    image_id = upload(anna).json()["image_id"]
    assert upload(bert).json()["image_id"] == image_id
    put = httpx.put(
        f"{server.url}/monai/datastore/",
        params={"image": "scan"},
        files={"file": ("a.png", data)},
        headers=anna,
    )
    assert put.is_success, put.text
    for sender in (anna, bert):
        assert httpx.get(f"{server.url}/v1/tenants", headers=sender).status_code == 403
        assert httpx.delete(f"{server.url}/v1/tenants/lab-a", headers=sender).status_code == 403
    assert httpx.delete(f"{server.url}/v1/tenants/a:*", headers=olga).status_code == 422
    told = httpx.delete(f"{server.url}/v1/tenants/lab-a", headers=olga)
    assert (told.status_code, told.json()["state"]) == (202, "deleting")
    server.kill()

    server = start()
    deadline = time.monotonic() + TIMEOUT_S
    while (folder / "data/objects/lab-a").exists():
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.2)
    refused = upload(anna, b"1")
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:segserve:problem:tenant_deleted")
    assert httpx.get(f"{server.url}/v1/images/{image_id}", headers=anna).status_code == 404
    assert httpx.get(f"{server.url}/v1/images/{image_id}", headers=bert).status_code == 200
    assert upload(bert, b"1").status_code == 201
    listed = {
        each["tenant"]: each for each in httpx.get(f"{server.url}/v1/tenants", headers=olga).json()["tenants"]
    }
    assert (listed["lab-a"]["state"], listed["lab-b"]["state"]) == ("deleting", "active")
    assert httpx.get(f"{server.url}/v1/tenants/lab-b", headers=olga).json() == listed["lab-b"]
