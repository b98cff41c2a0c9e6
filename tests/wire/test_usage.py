"""GET /v1/usage, as annotators and operators see it, and the limits of the tenants file, through a service."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, httpx.Client]]:
    folder = tmp_path_factory.mktemp("usage")
    keys = write_key_file(folder / "keys.json", USERS)
    (folder / "tenants.yaml").write_text("tenants: {lab-b: {max_images: 1}}")
    server = Server(
        folder / "data", keys_file=str(folder / "keys.json"), tenants_file=str(folder / "tenants.yaml")
    )
    clients = {
        name: httpx.Client(base_url=server.url, timeout=120, headers={"Authorization": f"Bearer {key}"})
        for name, key in keys.items()
    }
    yield clients
    for client in clients.values():
        client.close()
    assert server.stop() == 0, server.log.read_text()
    assert "internal error" not in server.log.read_text()


def upload(client: httpx.Client, data: bytes) -> str:
    answer = client.post("/v1/images", files={"file": data})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["image_id"])


def click(client: httpx.Client, image_id: str) -> httpx.Response:
    return client.post(
        "/v1/segment",
        json={"image_id": image_id, "prompts": [{"points": [[413, 190]]}, {"points": [[1, 1]]}]},
    )


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def read(client: httpx.Client, **query: str) -> Any:
    answer = client.get("/v1/usage", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["tenants"]


def test_each_tenant_sees_what_it_used_and_operators_see_all(
    users: dict[str, httpx.Client], nuclei: Path
) -> None:
    data = nuclei.read_bytes()
    anna, bert, olga = users["anna"], users["bert"], users["olga"]
    image_id = upload(anna, data)
    assert click(anna, image_id).is_success
    # Whoever has not uploaded it has no such image, though another tenant's is encoded already. The same bytes are
    # encoded again for the other tenant: that they were there before shows in nothing.
    assert click(bert, image_id).status_code == 404
    assert upload(bert, data) == image_id
    answer = click(bert, image_id)
    assert "encode" in answer.headers["server-timing"]
    assert anna.delete(f"/v1/images/{image_id}").status_code == 204
    assert click(bert, image_id).is_success
    wait_until(lambda: len(read(olga, tenant="*")) == 2)
    wait_until(lambda: read(bert)[0]["total"]["clicks"] == 4)
    [used] = read(anna)
    assert used["tenant"] == "lab-a"
    assert used["total"]["clicks"] == 2
    assert used["total"]["encoded_images"] == 1
    assert used["total"]["encode_seconds"] > 0
    today = datetime.now(UTC).date()
    assert used["days"][-1]["day"] in (str(today), str(today - timedelta(days=1)))
    assert [each["tenant"] for each in read(olga, tenant="*")] == ["lab-a", "lab-b"]
    assert read(olga, tenant="lab-a") == read(anna, tenant="lab-a") == [used]
    assert read(anna, **{"from": "2020-01-01", "to": "2020-02-01"})[0]["days"] == []


def test_nothing_made_of_an_image_is_shared_with_who_uploaded_the_same(
    users: dict[str, httpx.Client], nuclei: Path
) -> None:
    """Not the maps, the candidates, the tiles nor the masks: neither an answer nor its time tells of another tenant."""
    data = nuclei.read_bytes() + b"2"
    anna, olga = users["anna"], users["olga"]
    image_id = upload(anna, data)
    mask_id = click(anna, image_id).json()["results"][0]["masks"][0]["mask_id"]
    uses = {
        "ais": ({"method": "ais"}, 'segserve_ais_maps_total{source="decoder"}'),
        "amg": (
            {"method": "amg", "params": {"points_per_side": 2}},
            'segserve_amg_grids_total{source="decoder"}',
        ),
    }

    def count(line: str) -> float:
        samples = (text.rpartition(" ") for text in olga.get("/metrics").text.splitlines())
        return sum(float(value) for name, _, value in samples if name == line)

    def run(client: httpx.Client, body: dict[str, Any]) -> None:
        answer = client.post("/v1/automatic", json={"image_id": image_id, "format": "rle", **body})
        assert answer.is_success, answer.text

    for body, _ in uses.values():
        run(anna, body)
    tag = anna.get(f"/v1/images/{image_id}/preview").headers["etag"]
    job = {"kind": "batch", "input": {"image_ids": [image_id]}, "params": {"operation": "embed"}}
    job_id = anna.post("/v1/jobs", json=job).json()["job_id"]

    assert olga.get(f"/v1/jobs/{job_id}").status_code == 404, "operators too have a tenant"
    for path in ("", "/preview", "/embedding", "/tiles/0/0/0"):
        other = olga.get(f"/v1/images/{image_id}{path}", headers={"If-None-Match": tag})
        missing = olga.get(f"/v1/images/{'0' * 64}{path}", headers={"If-None-Match": tag})
        assert other.status_code == missing.status_code == 404, path
        assert other.json()["type"] == missing.json()["type"]
    assert upload(olga, data) == image_id
    prompts = [{"points": [[413, 190]], "mask_id": mask_id}]
    refused = olga.post("/v1/segment", json={"image_id": image_id, "prompts": prompts})
    assert refused.json()["type"] == "urn:segserve:problem:mask_not_found"
    assert anna.post("/v1/segment", json={"image_id": image_id, "prompts": prompts}).is_success
    for body, line in uses.values():
        before = count(line)
        run(olga, body)
        assert count(line) > before, "made anew"
        run(anna, body)
        run(olga, body)
        assert count(line) == before + 1


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({"tenant": "lab-b"}, 403, "tenant"),
        ({"tenant": "*"}, 403, "tenant"),
        ({"tenant": "nobody"}, 403, "tenant"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, 422, "from"),
        ({"from": "1999-01-01", "to": "2026-01-01"}, 422, "from"),
        ({"from": "yesterday"}, 422, "from"),
    ],
)
def test_what_is_not_answered(
    users: dict[str, httpx.Client], query: dict[str, str], status: int, field: str
) -> None:
    answer = users["anna"].get("/v1/usage", params=query)
    assert answer.status_code == status
    assert answer.json()["field"] == field


def test_a_name_that_no_tenant_has_is_refused(users: dict[str, httpx.Client]) -> None:
    answer = users["olga"].get("/v1/usage", params={"tenant": "a:*"})
    assert answer.status_code == 422
    assert read(users["olga"], tenant="nobody")[0]["days"] == []


def test_the_file_limits_a_tenant(users: dict[str, httpx.Client], nuclei: Path) -> None:
    data = nuclei.read_bytes()
    upload(users["bert"], data)
    answer = users["bert"].post("/v1/images", files={"file": data + b"1"})
    assert answer.status_code == 413
    assert "quota of 1 images" in answer.json()["detail"]
    upload(users["anna"], data + b"1")
