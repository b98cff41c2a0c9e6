"""docker-compose.yml: valid by its schema, and each of its commands runs as it is written there.

The schema is that of the Compose specification, which the check-jsonschema package carries.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from segserve.commands.serve import check_exposure
from segserve.settings import load_settings
from segserve.store.private_redis import is_redis_answering
from segserve.store.redis_servers import find_redis_binaries
from segserve.wire.server import MAX_LATE_DRAIN_S, SHUTDOWN_GRACE_S
from tests.commands.run_command import run_segserve
from tests.conftest import ExternalRedis
from tests.deploy.deployment_files import COMPOSE, PROMETHEUS, ROOT, instructions, load_compose
from tests.deploy.test_dockerfile import health_check_of_image
from tests.forked_program import start_segserve
from tests.serving import run_embed_job

START_TIMEOUT_S = 60
SERVICES: dict[str, Any] = load_compose()["services"]
SEGSERVE_SERVICES = ("api", "encoder", "encoder-gpu", "worker")


def test_the_file_follows_the_specification() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [check, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_with_keys_the_api_asks_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    override = yaml.safe_load((ROOT / "docker-compose.keys.yml").read_text())["services"]
    assert override.keys() == {"api"}
    variables = {**SERVICES["api"]["environment"], **override["api"]["environment"]}
    (mount,) = override["api"]["volumes"]
    folder = mount.split(":")[1]
    assert variables["SEGSERVE_KEYS_FILE"].startswith(f"{folder}/")
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace(folder, str(tmp_path)))
    settings = load_settings(host="0.0.0.0")
    check_exposure(settings)
    assert settings.asks_for_keys
    assert not settings.insecure


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    assert image.startswith("segserve:") or re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", image)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists(name: str) -> None:
    named = load_compose()["volumes"]
    for mount in SERVICES[name].get("volumes", []):
        source = mount.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in named


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_profile_has_all_parts_and_one_encoder(profile: str) -> None:
    running = {name for name, service in SERVICES.items() if profile in service["profiles"]}
    encoders = {name for name in running if name.startswith("encoder")}
    assert running - encoders == {"api", "balancer", "worker", "redis", "redis-jobs", "prometheus", "grafana"}
    assert encoders == {"encoder" if profile == "cpu" else "encoder-gpu"}
    assert all(network["aliases"] == ["encoder"] for network in SERVICES["encoder-gpu"]["networks"].values())


def peers(name: str) -> set[str]:
    """Return the services that reach a service: those that share a network with it."""
    networks = set(SERVICES[name]["networks"])
    return {other for other, service in SERVICES.items() if networks & set(service["networks"])}


@pytest.mark.parametrize("name", ["redis", "redis-jobs"])
def test_only_segserve_reaches_redis_and_nobody_from_outside(name: str) -> None:
    networks = load_compose()["networks"]
    assert all(networks[network]["internal"] is True for network in SERVICES[name]["networks"])
    assert "ports" not in SERVICES[name]
    assert peers(name) == {*SEGSERVE_SERVICES, "redis", "redis-jobs"}


def test_each_service_reaches_what_it_needs() -> None:
    assert {"encoder", "encoder-gpu", "redis", "redis-jobs"} <= peers("api") & peers("worker")
    assert set(SEGSERVE_SERVICES) <= peers("prometheus")
    assert peers("grafana") == {"prometheus", "grafana"}
    networks = load_compose()["networks"]
    for name in [*(name for name, service in SERVICES.items() if "ports" in service), "worker"]:
        kinds = [(networks[network] or {}).get("internal", False) for network in SERVICES[name]["networks"]]
        assert False in kinds, f"{name}: a port is published, and a webhook sent, by no internal network"


def test_the_balancer_alone_is_published_and_reaches_the_api_alone() -> None:
    assert peers("balancer") == {"api", "balancer"}
    assert SERVICES["balancer"]["ports"] == ["127.0.0.1:8000:8000", "127.0.0.1:8001:8001"]
    assert "ports" not in SERVICES["api"], "a fixed port would allow one replica"


@pytest.mark.parametrize("name", ["api", "encoder", "encoder-gpu"])
def test_what_is_stopped_is_left_first_and_has_time_to_end(name: str) -> None:
    drain_s = float(SERVICES[name]["environment"]["SEGSERVE_DRAIN_S"])
    assert drain_s >= (6 if name == "api" else 1), "twice the time in which balancer or client notice"
    assert (
        float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        > drain_s + MAX_LATE_DRAIN_S + SHUTDOWN_GRACE_S + 10
    )


def test_api_encoders_and_workers_share_images_and_models() -> None:
    assert {tuple(SERVICES[name]["volumes"]) for name in SEGSERVE_SERVICES} == {("data:/data",)}


def test_models_are_pulled_into_the_shared_volume(tmp_path: Path) -> None:
    service = SERVICES["models"]
    assert service["volumes"] == SERVICES["api"]["volumes"]
    assert all(network == "outside" for network in service["networks"]), "a pull needs a way out"
    program, *arguments = service["entrypoint"]
    assert program == "segserve"
    done = run_segserve(*arguments, *service["command"], SEGSERVE_DATA_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "mobile-sam" in done.stdout


def test_prometheus_scrapes_each_process_on_the_port_of_its_health_check() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    targets = [job["dns_sd_configs"][0] for job in jobs]
    ports = {name: target["port"] for target in targets for name in target["names"]}
    assert ports.keys() == {"api", "encoder", "worker"}
    for name, port in ports.items():
        assert f"127.0.0.1:{port}/livez" in health_check(name)[-1], name


@pytest.mark.parametrize("name", ["redis", "redis-jobs"])
def test_redis_starts_with_its_options(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    command = list(SERVICES[name]["command"])
    assert command.pop(0) == "redis-server"
    address = tmp_path_factory.mktemp("r") / "r.sock"
    server = subprocess.Popen(
        [
            find_redis_binaries()[0],
            *command,
            "--port",
            "0",
            "--unixsocket",
            str(address),
            "--dir",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while not is_redis_answering(address):
            assert server.poll() is None, server.communicate()[0]
            time.sleep(0.01)
    finally:
        server.terminate()
        server.communicate()


def health_check(name: str) -> list[str]:
    """Return the command of the service's health check."""
    service = SERVICES[name]
    if "healthcheck" not in service:
        return health_check_of_image("cpu")
    command: list[str] = service["healthcheck"]["test"][1:]
    return command


# The commands of segserve as processes. Only the addresses of the compose network are replaced by local ones.


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Network:
    """The compose network on this machine: a free port for each port, and a data folder for the shared volume."""

    def __init__(self, redis: ExternalRedis, data: Path) -> None:
        self._redis, self._data = redis, data
        self._ports = {number: free_port() for number in (8000, 8001, 8002, 8010, 8011, 8012)}

    def __getitem__(self, port: int) -> int:
        return self._ports[port]

    def local(self, value: str) -> str:
        value = re.sub(r"redis://redis(-jobs)?:6379/0", self._redis.url, value)
        value = value.replace("dns:///encoder:", "dns:///127.0.0.1:")
        return re.sub(r"\b80(00|01|02|10|11|12)\b", lambda match: str(self._ports[int(match[0])]), value)

    def environment(self, name: str) -> dict[str, str]:
        image = SERVICES[name]["build"]["target"]
        pairs = [pair for key, rest in instructions(image) if key == "ENV" for pair in rest.split()]
        variables = dict(pair.split("=", 1) for pair in pairs if pair.startswith("SEGSERVE_"))
        variables |= {key: self.local(value) for key, value in SERVICES[name]["environment"].items()}
        variables |= {"SEGSERVE_DATA_DIR": str(self._data)}
        # Each container has its own port 8000; here one port is free for it.
        variables |= {"SEGSERVE_PORT": str(self._ports[8000])}
        variables |= {"SEGSERVE_OPERATOR_PORT": str(self._ports[8002])}
        variables |= {"SEGSERVE_DRAIN_S": "0"}  # no balancer here that must leave first
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SEGSERVE_")}
        return {**inherited, **variables}

    def command(self, name: str) -> list[str]:
        from_image = ["serve", "--host", "0.0.0.0"]
        return [self.local(word) for word in SERVICES[name].get("command", from_image)]

    @contextmanager
    def running(self, name: str, **without: None) -> Iterator[None]:
        """Run the service while the block runs; wait until its health check passes. without: variables to leave out."""
        log = self._data / f"{name}.log"
        environment = {k: v for k, v in self.environment(name).items() if k not in without}
        with log.open("w") as out:
            process = start_segserve(self.command(name), environment, out, out)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not self.healthy(name):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield
        finally:
            process.terminate()
            assert process.wait(timeout=40) == 0, log.read_text()

    def healthy(self, name: str) -> bool:
        test = health_check(name)
        assert test[0] == "python"
        command = [sys.executable, *(self.local(word) for word in test[1:])]
        return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def network(redis: ExternalRedis, tmp_path: Path) -> Network:
    return Network(redis, tmp_path)


@contextmanager
def uploaded(url: str, picture: Path) -> Iterator[tuple[httpx.Client, str]]:
    """Wait until the service is ready and upload the image. Yields a client and the image_id."""
    with httpx.Client(base_url=url, timeout=60) as client:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (ready := client.get("/readyz")).json()["status"] != "ready":
            assert time.monotonic() < deadline, ready.text
            time.sleep(0.1)
        yield client, client.post("/v1/images", content=picture.read_bytes()).json()["image_id"]


def click(url: str, picture: Path) -> httpx.Response:
    prompt = {"points": [[413, 190]], "labels": [1]}
    with uploaded(url, picture) as (client, image_id):
        return client.post("/v1/segment", json={"image_id": image_id, "prompts": [prompt]})


def test_the_api_answers_clicks_without_an_encoder(network: Network, nuclei: Path) -> None:
    assert not network.healthy("api")
    with network.running("api", SEGSERVE_ENCODER_URL=None):
        answer = click(f"http://127.0.0.1:{network[8000]}", nuclei)
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["masks"]


def test_the_api_and_the_worker_share_the_encoder(network: Network, nuclei: Path) -> None:
    with network.running("encoder"), network.running("worker"), network.running("api"):
        url = f"http://127.0.0.1:{network[8000]}"
        answer = click(url, nuclei)
        assert answer.status_code == 200, answer.text
        with uploaded(url, nuclei) as (client, image_id):
            job = run_embed_job(client, [image_id])
        worked = httpx.get(f"http://127.0.0.1:{network[8012]}/metrics").text
        encoded = httpx.get(f"http://127.0.0.1:{network[8011]}/metrics").text
    assert (job["state"], job["progress"]["done"], job["progress"]["failed"]) == ("succeeded", 1, 0)
    assert 'segserve_job_units_total{kind="batch"} 1.0' in worked
    assert 'segserve_encoded_images_total{model="starter"} 1.0' in encoded
