"""The load balancer of docker-compose.yml, run as a process before two real replicas.

Debian: apt-get install haproxy.
"""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.certificates import Authority
from tests.conftest import ExternalRedis
from tests.deploy.deployment_files import ROOT
from tests.serving import Server

CONFIG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
TLS_CONFIG = ROOT / "deploy" / "kubernetes" / "components" / "tls" / "haproxy.cfg"
IMAGES = 6
CLICKS = 4
BODY = {"prompts": [{"points": [[20, 20]]}]}

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy") is None, reason="haproxy is missing: apt-get install haproxy"
)


def find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def read_config(path: Path = CONFIG) -> str:
    """Return the configuration, without the one word that HAProxy before 3.0 does not know."""
    text = path.read_text()
    version = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout
    is_old = int(version.split()[2].split(".")[0]) < 3
    return text.replace(" hash-key addr", "") if is_old else text


def write_config(path: Path, replicas: list[Server], ports: dict[str, int], config: Path = CONFIG) -> None:
    """Write the configuration with the addresses of this test; everything else stays as it is."""
    text = read_config(config)
    for fixed, port in ports.items():
        text = text.replace(f"bind {fixed}", f"bind 127.0.0.1:{port}")

    def name_replicas(match: re.Match[str]) -> str:
        addresses = []
        for number, replica in enumerate(replicas):
            operators = replica.find_address(r"operators at https?://\S+:(\d+)")
            own = replica.url.partition("//")[2] if match[1] == "8000" else replica.grpc_address()
            addresses.append(f"    server api{number} {own}{match[2]} port {operators}")
        return "\n".join(addresses)

    text, count = re.subn(r"    server-template api 1-64 \S+:(\d+)(.*)", name_replicas, text)
    assert count == 4
    text = text.replace("check port 8002 ", "check ").replace(" resolvers dns init-addr none", "")
    path.write_text(text)


class Deployment:
    def __init__(self, folder: Path, redis: ExternalRedis) -> None:
        options = {"redis_url": redis.url, "grpc_port": "0", "operator_port": "0"}
        self.replicas = [Server(folder / "data", **options) for _ in range(2)]
        for replica in self.replicas:
            replica.wait_ready()
        ports = {":8000": find_free_port(), ":8001": find_free_port(), "127.0.0.1:8009": find_free_port()}
        write_config(folder / "haproxy.cfg", self.replicas, ports)
        with (folder / "haproxy.log").open("w") as log:
            self.process = subprocess.Popen(
                ["haproxy", "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log
            )
        self.grpc_address = f"127.0.0.1:{ports[':8001']}"
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{ports[':8000']}", timeout=60)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, (folder / "haproxy.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.client.get("/livez").is_success
        except httpx.HTTPError:
            return False

    def count_clicks(self) -> list[int]:
        """Return how many clicks each replica has answered."""
        counts = []
        for replica in self.replicas:
            lines = replica.client.get("/metrics").text.splitlines()
            clicks = [line for line in lines if line.startswith("segserve_click_seconds_count{")]
            counts.append(sum(int(float(line.split()[-1])) for line in clicks))
        return counts

    def wait_for_clicks(self, total: int) -> list[int]:
        deadline = time.monotonic() + 60
        while sum(counts := self.count_clicks()) < total:
            assert time.monotonic() < deadline, counts
            time.sleep(0.05)
        return counts

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(timeout=60)
        for replica in self.replicas:
            replica.stop()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    redis = ExternalRedis(tmp_path_factory.mktemp("r"))
    running = Deployment(tmp_path_factory.mktemp("balanced"), redis)
    yield running
    running.stop()
    redis.kill()


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    config = tmp_path / "haproxy.cfg"
    config.write_text(read_config())
    done = subprocess.run(["haproxy", "-c", "-f", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("place", ["path", "header"])
def test_all_clicks_on_an_image_meet_one_replica(deployment: Deployment, nuclei: Path, place: str) -> None:
    used = set()
    for number in range(IMAGES):
        # Bytes after the end are ignored by decoders, and make another image_id.
        data = nuclei.read_bytes() + place.encode() + bytes(number)
        image_id = deployment.client.post("/v1/images", files={"file": data}).json()["image_id"]
        before = deployment.count_clicks()
        for _ in range(CLICKS):
            if place == "path":
                answer = deployment.client.post(f"/v1/images/{image_id}/segment", json=BODY)
            else:
                answer = deployment.client.post(
                    "/v1/segment", json={**BODY, "image_id": image_id}, headers={"x-image-id": image_id}
                )
            assert answer.status_code == 200, answer.text
        after = deployment.wait_for_clicks(sum(before) + CLICKS)
        by_replica = [now - then for now, then in zip(after, before, strict=True)]
        assert sorted(by_replica) == [0, CLICKS]
        used.add(by_replica.index(CLICKS))
    assert used == {0, 1}, "images are spread"


@pytest.mark.parametrize("metadata", [(), (("x-image-id", "a" * 64),)])
def test_grpc_passes(deployment: Deployment, metadata: tuple[tuple[str, str], ...]) -> None:
    with grpc.insecure_channel(deployment.grpc_address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(
            health_pb2.HealthCheckRequest(), metadata=metadata, wait_for_ready=True, timeout=60
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_when_a_replica_goes_its_images_move(deployment: Deployment, nuclei: Path) -> None:
    """Last in this file: it stops one."""
    image_id = deployment.client.post("/v1/images", files={"file": nuclei.read_bytes()}).json()["image_id"]
    deployment.replicas[0].stop()
    deadline = time.monotonic() + 60
    for _ in range(20):
        while (
            status := deployment.client.post(f"/v1/images/{image_id}/segment", json=BODY).status_code
        ) != 200:
            assert status in (502, 503)
            assert time.monotonic() < deadline
            time.sleep(0.05)
    deployment.replicas.pop(0)


def test_tls_on_both_sides(tmp_path: Path, redis: ExternalRedis) -> None:
    """The configuration of the component tls: REST, gRPC and checks reach a replica that speaks TLS alone."""
    authority = Authority(tmp_path / "authority")
    folder = tmp_path / "tls"
    folder.mkdir()
    cert, key = authority.sign("balancer")
    for source, name in ((cert, "tls.crt"), (key, "tls.key"), (authority.ca, "ca.crt")):
        (folder / name).write_bytes(source.read_bytes())
    own = authority.sign("api", "api", "127.0.0.1")
    options = {"redis_url": redis.url, "grpc_port": "0", "operator_port": "0"}
    replica = Server(
        tmp_path / "data", tls=authority.context(), tls_cert=str(own[0]), tls_key=str(own[1]), **options
    )
    replica.wait_ready()
    ports = {":8000": find_free_port(), ":8001": find_free_port(), "127.0.0.1:8009": find_free_port()}
    config = tmp_path / "haproxy.cfg"
    write_config(config, [replica], ports, TLS_CONFIG)
    config.write_text(config.read_text().replace("/etc/haproxy/tls", str(folder)))
    with (tmp_path / "haproxy.log").open("w") as log:
        balancer = subprocess.Popen(["haproxy", "-db", "-f", config], stdout=log, stderr=log)
    try:
        url = f"https://127.0.0.1:{ports[':8000']}"
        with httpx.Client(base_url=url, verify=authority.context(), timeout=60) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    if client.get("/readyz").is_success:
                        break
                except httpx.TransportError:
                    pass
                assert balancer.poll() is None, (tmp_path / "haproxy.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "haproxy.log").read_text()
                time.sleep(0.05)
        credentials = grpc.ssl_channel_credentials(authority.ca.read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{ports[':8001']}", credentials) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=60
            )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{ports[':8000']}/readyz", timeout=30)
    finally:
        balancer.terminate()
        balancer.wait(timeout=60)
        replica.stop()
