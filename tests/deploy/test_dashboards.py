"""Every expression of every panel has data in a real Prometheus that scrapes a real service under load."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from segserve.metrics import Metrics
from tests.conftest import ExternalRedis
from tests.deploy.deployment_files import DASHBOARDS, GRAFANA, PROMETHEUS
from tests.serving import Process, Server, Worker, run_embed_job

DATA_TIMEOUT_S = 120
# Labels that are empty for some series. Prometheus shows no empty label.
EMPTY_LABELS = {"problem"}
NO_DATA = {
    "segserve_device_memory_bytes": "only where there is an accelerator",
    "segserve_frontend_sessions": "only while a tool follows objects through a video",
}


@dataclass(frozen=True)
class Target:
    """One expression of one panel."""

    dashboard: str
    panel: str
    expr: str
    legend: str

    @property
    def query(self) -> str:
        """Return the query that Grafana sends when all instances are selected."""
        return self.expr.replace("$__rate_interval", "1m").replace("$instance", ".*")

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.expr}"


def panels(path: Path) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    return panels


TARGETS = [
    Target(path.stem, panel["title"], target["expr"], target["legendFormat"])
    for path in DASHBOARDS
    for panel in panels(path)
    for target in panel["targets"]
]


# What the files say.


def test_ids_of_dashboards_and_panels_are_unique() -> None:
    uids = [json.loads(path.read_text())["uid"] for path in DASHBOARDS]
    assert len(set(uids)) == len(uids) == 7
    for path in DASHBOARDS:
        ids = [panel["id"] for panel in panels(path)]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: str(path.stem))
def test_a_panel_has_a_unit_a_description_and_the_provisioned_source(path: Path) -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    for panel in panels(path):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"]["uid"] == sources[0]["uid"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: str(path.stem))
def test_panels_do_not_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(path):
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def exposed_metrics() -> set[str]:
    families = re.findall(r"^# TYPE (segserve_\w+)", Metrics().expose().decode(), re.M)
    return {name for name in families if not name.endswith("_created")}


def metric_family(name: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", name)


def test_every_metric_of_the_service_is_on_a_dashboard() -> None:
    recorded = (PROMETHEUS / "rules" / "recording.yml").read_text()
    shown = {
        metric_family(name)
        for name in re.findall(r"segserve_\w+", "\n".join([recorded, *(t.expr for t in TARGETS)]))
    }
    assert exposed_metrics() <= shown


def test_rules_and_dashboards_use_only_metrics_that_exist() -> None:
    rules = "".join(path.read_text() for path in (PROMETHEUS / "rules").glob("*.yml"))
    recorded = set(re.findall(r"record: (segserve:[\w:]+)", rules))
    text = rules + "\n".join(target.expr for target in TARGETS)
    assert {metric_family(name) for name in re.findall(r"\bsegserve_\w+", text)} <= exposed_metrics()
    assert set(re.findall(r"\bsegserve:[\w:]+", text)) <= recorded


# A service under load.


class Prometheus:
    """Prometheus with the deployment's configuration, but intervals of a second, and fixed targets instead of DNS."""

    def __init__(self, folder: Path, running: dict[str, list[Process]]) -> None:
        """running: the processes by the name of the job that scrapes them."""
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(PROMETHEUS / pattern) for pattern in config["rule_files"]]
        for job in config["scrape_configs"]:
            del job["dns_sd_configs"]
            urls = [process.url for process in running.get(job["job_name"], [])]
            job["static_configs"] = [{"targets": [url.removeprefix("http://") for url in urls]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{s.getsockname()[1]}"
        self._log = folder / "prometheus.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._client = httpx.Client(base_url=f"http://{address}/api/v1")

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the samples that are numbers. None of them if Prometheus does not answer yet."""
        assert self.process.poll() is None, self._log.read_text()
        try:
            answer = self._client.get("/query", params={"query": expr})
        except httpx.TransportError:
            return []
        if answer.status_code == 503:  # still starting
            return []
        assert answer.status_code == 200, answer.text
        return [s for s in answer.json()["data"]["result"] if s["value"][1] != "NaN"]

    def rules(self) -> list[dict[str, Any]]:
        groups = self._client.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def stop(self) -> None:
        self._client.close()
        self.process.terminate()
        self.process.wait()


def create_png() -> bytes:
    """Return a PNG that was never uploaded."""
    file = io.BytesIO()
    values = np.frombuffer(os.urandom(64 * 48 * 3), np.uint8).reshape(48, 64, 3)
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def put_load_on(first: Server, second: Server) -> None:
    """Do a bit of everything: every way to an embedding, an error, refusals, a job, a deletion."""
    image_id = first.upload(create_png())
    assert first.click(image_id, 20, 20).status_code == 200  # encoded
    assert first.click(image_id, 30, 20).status_code == 200  # from the process
    assert second.click(image_id, 30, 20).status_code == 200  # from Redis
    assert first.client.post("/v1/automatic", json={"image_id": image_id, "method": "ais"}).is_success
    clicks = {"image_id": image_id, "method": "amg", "params": {"points_per_side": 2}}
    assert first.client.post("/v1/automatic", json=clicks).is_success
    assert first.click("0" * 64, 1, 1).status_code == 404
    inputs = [
        {"name": "image_id", "datatype": "BYTES", "shape": [1], "data": [image_id]},
        {"name": "boxes", "datatype": "FP32", "shape": [1, 4], "data": [10, 10, 40, 40]},
    ]
    assert first.client.post("/v2/models/starter/infer", json={"inputs": inputs}).is_success
    fresh = [second.upload(create_png()) for _ in range(8)]
    with ThreadPoolExecutor(len(fresh)) as threads:  # more than the encode queue holds
        statuses = set(threads.map(lambda i: second.click(i, 20, 20).status_code, fresh))
    assert 200 in statuses <= {200, 503}
    assert run_embed_job(first.client, [image_id, "missing"])["state"] == "succeeded"
    assert first.client.delete(f"/v1/images/{image_id}").is_success


@contextmanager
def repeated(work: Callable[[], None]) -> Iterator[threading.Event]:
    """Repeat `work` in a thread while the block runs. The event is set when it has failed."""
    done, failed = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def loop() -> None:
        try:
            while not done.is_set():
                work()
        except BaseException as error:
            errors.append(error)
            failed.set()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield failed
    finally:
        done.set()
        thread.join()
        if errors:
            raise errors[0]


@dataclass(frozen=True)
class Deployment:
    replicas: tuple[Server, Server]
    worker: Worker


@pytest.fixture
def deployment(redis: ExternalRedis, tmp_path: Path) -> Iterator[Deployment]:
    (tmp_path / "objects").mkdir()
    shared = {
        "redis_url": redis.url,
        "jobs_redis_url": redis.url,
        "object_store": f"file://{tmp_path / 'objects'}",
        "encode_queue": "2",
    }
    servers = Server(tmp_path / "a", **shared), Server(tmp_path / "b", **shared)
    worker = Worker(tmp_path / "w", **shared)
    for process in (*servers, worker):
        process.wait_ready()
    yield Deployment(servers, worker)
    for process in (worker, *servers):
        process.stop()


@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is missing: apt-get install prometheus"
)
def test_every_panel_shows_data(deployment: Deployment, tmp_path: Path) -> None:
    running: dict[str, list[Process]] = {
        "segserve-api": [*deployment.replicas],
        "segserve-worker": [deployment.worker],
    }
    prometheus = Prometheus(tmp_path, running)
    waiting = {t for t in TARGETS if not any(metric in t.expr for metric in NO_DATA)}
    shown: dict[Target, list[dict[str, Any]]] = {}
    try:
        with repeated(lambda: put_load_on(*deployment.replicas)) as failed:
            deadline = time.monotonic() + DATA_TIMEOUT_S
            while waiting and not failed.is_set() and time.monotonic() < deadline:
                shown |= {t: samples for t in waiting if (samples := prometheus.query(t.query))}
                waiting -= shown.keys()
                time.sleep(0.5)
        assert not waiting, "\n".join(["no data for:", *sorted(map(str, waiting))])
        bad = [(rule["name"], rule.get("lastError")) for rule in prometheus.rules() if rule["health"] != "ok"]
        assert not bad
        for path in ("process", "redis", "encoded"):  # the labels that rules and panels select
            assert prometheus.query(f'segserve:click_seconds:p99_5m{{embedding="{path}"}}'), path
    finally:
        prometheus.stop()
    for target, series in shown.items():
        labels = set(re.findall(r"{{(\w+)}}", target.legend)) - EMPTY_LABELS
        assert all(labels <= s["metric"].keys() for s in series), (
            f"its legend names a label that does not exist: {target}"
        )
