"""Usage by REST, gRPC, client and command, as annotators and operators see it; and the limits of the tenants file."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from typer.testing import CliRunner, Result

from segserve.cli import cli
from segserve.errors import BadInput
from segserve.identity.identity import Identity
from segserve.types import AccessRole
from segserve.v1 import usage_pb2, usage_pb2_grpc
from segserve_client import AsyncClient, BadRequest, Client, Link, NotAllowed, Usage
from tests.key_files import write_key_file
from tests.serving import Server

USERS = (
    Identity("lab-a", AccessRole.ANNOTATOR, "anna"),
    Identity("lab-b", AccessRole.ANNOTATOR, "bert"),
    Identity("default", AccessRole.OPERATOR, "olga"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("usage")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    return write_key_file(folder / "keys.json", USERS)


@pytest.fixture(scope="module")
def service(folder: Path, keys: dict[str, str]) -> Iterator[Server]:
    (folder / "tenants.yaml").write_text("tenants: {lab-b: {max_images: 1}}")
    server = Server(
        folder / "data",
        keys_file=str(folder / "keys.json"),
        tenants_file=str(folder / "tenants.yaml"),
        grpc_port="0",
    )
    yield server
    assert server.stop() == 0, server.log.read_text()
    assert "internal error" not in server.log.read_text()


@pytest.fixture(scope="module")
def users(service: Server, keys: dict[str, str]) -> Iterator[dict[str, httpx.Client]]:
    clients = {
        name: httpx.Client(base_url=service.url, timeout=120, headers={"Authorization": f"Bearer {key}"})
        for name, key in keys.items()
    }
    yield clients
    for client in clients.values():
        client.close()


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


# The same by other ways. They come last: the tests before have used something.


def ask_by_grpc(service: Server, key: str, **fields: str) -> usage_pb2.ReadUsageResponse:
    with grpc.insecure_channel(service.grpc_address()) as channel:
        answer: usage_pb2.ReadUsageResponse = usage_pb2_grpc.UsageServiceStub(channel).ReadUsage(
            usage_pb2.ReadUsageRequest(**fields), metadata=[("authorization", f"Bearer {key}")], timeout=60
        )
        return answer


def read_at_rest(client: httpx.Client, **query: str) -> Any:
    """Read until two answers are the same: counts are written every ten seconds."""
    while (before := read(client, **query)) != (again := read(client, **query)):
        time.sleep(0.1)
    assert before
    return again


def test_grpc_says_the_same(service: Server, users: dict[str, httpx.Client], keys: dict[str, str]) -> None:
    wait_until(lambda: read(users["anna"])[0]["total"]["clicks"] > 0)
    [used] = read_at_rest(users["anna"])
    answer = ask_by_grpc(service, keys["anna"])
    [tenant] = answer.tenants
    assert tenant.tenant == "lab-a"
    for name, amount in used["total"].items():
        assert getattr(tenant.total, name) == amount
    assert [day.day for day in tenant.days] == [day["day"] for day in used["days"]]
    assert tenant.days[-1].HasField("stored_bytes") is (used["days"][-1]["stored_bytes"] is not None)
    assert len(ask_by_grpc(service, keys["olga"], tenant="*").tenants) >= 2
    empty = ask_by_grpc(service, keys["anna"], first_day="2020-01-01", last_day="2020-02-01")
    assert (empty.first_day, empty.last_day, list(empty.tenants[0].days)) == ("2020-01-01", "2020-02-01", [])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"tenant": "*"}, grpc.StatusCode.PERMISSION_DENIED),
        ({"tenant": "lab-b"}, grpc.StatusCode.PERMISSION_DENIED),
        ({"first_day": "yesterday"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"last_day": "2026-02-30"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"first_day": "1764288000"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=str,
)
def test_grpc_refuses_the_same(
    service: Server, keys: dict[str, str], fields: dict[str, str], code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask_by_grpc(service, keys["anna"], **fields)
    assert caught.value.code() is code


def test_the_python_client_reads_it(
    service: Server, users: dict[str, httpx.Client], keys: dict[str, str]
) -> None:
    async def read_awaited() -> Usage:
        async with AsyncClient(service.url, api_key=keys["anna"]) as client:
            return await client.usage()

    [expected] = read_at_rest(users["anna"])
    with Client(service.url, api_key=keys["anna"]) as client:
        used = client.usage()
        [tenant] = used.tenants
        assert tenant.tenant == "lab-a"
        assert asdict(tenant.total) == expected["total"]
        assert [str(day.day) for day in tenant.days] == [day["day"] for day in expected["days"]]
        assert asyncio.run(read_awaited()) == used
        [past] = client.usage(first=date(2020, 1, 1), last=date(2020, 2, 1)).tenants
        assert past.days == ()
        with pytest.raises(NotAllowed):
            client.usage(tenant="*")


def test_the_python_client_makes_links(service: Server, keys: dict[str, str], noise: bytes) -> None:
    async def sign(path: str) -> Link:
        async with AsyncClient(service.url, api_key=keys["anna"]) as client:
            return await client.create_link(path)

    with Client(service.url, api_key=keys["anna"]) as client:
        image = client.image(noise)
        path = f"/v1/images/{image.image_id}"
        link = client.create_link(f"{path}/preview?max=32", seconds=60)
        with pytest.raises(BadRequest):
            client.create_link("/v1/models")
    assert 0 < (link.expires_at - datetime.now(UTC)).total_seconds() <= 60
    for url in (link.url, asyncio.run(sign(f"{path}/preview")).url, asyncio.run(sign(path)).url):
        assert url.startswith(f"{service.url}{path}")
        assert httpx.get(url).status_code == 200
    assert httpx.get(f"{service.url}{path}/preview").status_code == 401


def test_without_keys_a_link_is_the_address_itself(server: Server) -> None:
    with Client(server.url) as client:
        assert client.create_link("/v1/jobs/a/results?format=coco").url == (
            f"{server.url}/v1/jobs/a/results?format=coco"
        )


def test_the_command_shows_a_table(
    service: Server, users: dict[str, httpx.Client], keys: dict[str, str], tmp_path: Path
) -> None:
    def run(name: str, *arguments: str) -> Result:
        (tmp_path / name).write_text(keys[name])
        options = ["usage", "--server", service.url, "--api-key-file", str(tmp_path / name)]
        return CliRunner().invoke(cli, [*options, *arguments])

    [used] = read_at_rest(users["anna"])
    total = used["total"]
    shown = run("anna")
    assert shown.exit_code == 0, shown.output
    [row] = [line.split() for line in shown.stdout.splitlines() if line.startswith("lab-a")]
    assert row[:5] == [
        "lab-a",
        "all",
        str(total["encoded_images"]),
        f"{total['encode_seconds']:.1f}",
        str(total["clicks"]),
    ]
    days = [line.split()[1] for line in run("anna", "--days").stdout.splitlines() if line.startswith("lab-a")]
    assert days == [*(day["day"] for day in used["days"]), "all"]
    everybody = run("olga", "--tenant", "*").stdout
    assert "lab-b" in everybody
    refused = run("anna", "--tenant", "*")
    assert isinstance(refused.exception, BadInput)
    assert "operators" in str(refused.exception)
    past = run("anna", "--from", "2020-01-01", "--to", "2020-02-01")
    assert "Usage from 2020-01-01 to 2020-02-01" in past.stdout
