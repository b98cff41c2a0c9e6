"""Replicas and encoder workers as processes: each image is encoded once, and a killed worker costs no request."""

import io
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segserve.timing import Timings
from segserve.v1 import encoder_pb2
from segserve.wire.grpc.encoder_client import add_stages
from tests.conftest import ExternalRedis
from tests.serving import Encoder, Process, Server

ENCODED = 'segserve_encoded_images_total{model="starter"}'


def create_pngs(count: int) -> list[bytes]:
    """Return PNGs that were never uploaded."""
    files = []
    for _ in range(count):
        file = io.BytesIO()
        values = np.frombuffer(os.urandom(60 * 80 * 3), np.uint8).reshape(60, 80, 3)
        Image.fromarray(values).save(file, "PNG")
        files.append(file.getvalue())
    return files


class Deployment:
    """Two replicas and two encoder workers that share a Redis and an object store."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        shared = {"redis_url": redis_url, "encode_threads": "1"}
        self.encoders = [Encoder(folder, **shared) for _ in range(2)]
        url = "ipv4:" + ",".join(e.target for e in self.encoders)
        self.servers = [Server(folder, **shared, encoder_url=url) for _ in range(2)]
        for process in self.processes:
            process.wait_ready()

    @property
    def processes(self) -> list[Process]:
        return [*self.servers, *self.encoders]

    def encoded(self) -> float:
        return sum(e.metric(ENCODED) for e in self.encoders)

    def used(self, kind: str) -> float:
        """Return what was counted as used."""
        names = [
            f'segserve_usage_total{{kind="{kind}",tenant="{tenant}"}}' for tenant in ("default", "_other")
        ]
        return sum(server.metric(name) for server in self.servers for name in names)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    redis = ExternalRedis(tmp_path_factory.mktemp("r"))
    running = Deployment(tmp_path_factory.mktemp("deployment"), redis.url)
    yield running
    for process in running.processes:
        assert process.stop() == 0, process.log.read_text()
    redis.kill()


def test_each_image_is_encoded_once_for_all_replicas(deployment: Deployment) -> None:
    ids = [deployment.servers[0].upload(p) for p in create_pngs(6)]
    before, start = deployment.encoded(), time.monotonic()
    with ThreadPoolExecutor(24) as threads:
        clicks = [
            (image_id, threads.submit(server.click, image_id, 40, 30))
            for image_id in ids
            for server in deployment.servers * 2
        ]
    answers: dict[str, set[str]] = {image_id: set() for image_id in ids}
    for image_id, click in clicks:
        answer = click.result()
        assert answer.status_code == 200, answer.text
        answers[image_id].add(answer.json()["results"][0]["masks"][0]["mask"]["counts"])
    assert all(len(masks) == 1 for masks in answers.values()), "every replica answers the same"
    assert deployment.encoded() - before == 6
    assert deployment.used("encoded_images") == 6
    # Waiting in the queues of two encoders does not count.
    assert 0 < deployment.used("encode_seconds") <= 2 * (time.monotonic() - start)
    more = iter(create_pngs(50))
    while (
        min(e.metric(ENCODED) for e in deployment.encoders) == 0
    ):  # one may have been busy or slow to be found
        image_id = deployment.servers[0].upload(next(more))  # StopIteration: one never encodes
        assert deployment.servers[0].click(image_id, 40, 30).status_code == 200
    assert all(s.metric(ENCODED) == 0 for s in deployment.servers)


def test_a_mask_of_one_replica_is_refined_on_another(deployment: Deployment) -> None:
    first, second = deployment.servers
    image_id = first.upload(create_pngs(1)[0])
    mask_id = first.click(image_id, 40, 30).json()["results"][0]["masks"][0]["mask_id"]
    refine = {"points": [[40, 30]], "mask_id": mask_id}
    answer = second.client.post("/v1/segment", json={"image_id": image_id, "prompts": [refine]})
    assert answer.status_code == 200, answer.text


def test_a_killed_worker_costs_no_request_and_is_used_again_after_a_restart(deployment: Deployment) -> None:
    ids = [deployment.servers[0].upload(p) for p in create_pngs(16)]
    victim = deployment.encoders[0]
    with ThreadPoolExecutor(8) as threads:
        clicks = [
            threads.submit(deployment.servers[i % 2].click, image_id, 40, 30)
            for i, image_id in enumerate(ids)
        ]
        victim.kill()
        assert {click.result().status_code for click in clicks} == {200}
    victim.start()
    victim.wait_ready()
    more = [deployment.servers[1].upload(p) for p in create_pngs(40)]
    for image_id in more:
        assert deployment.servers[0].click(image_id, 40, 30).status_code == 200
        if victim.metric(ENCODED):
            return
    raise AssertionError("the restarted worker got no image")


def test_a_worker_sends_the_same_security_headers_as_the_service(deployment: Deployment) -> None:
    worker = deployment.encoders[0].client
    for path in ("/livez", "/metrics", "/nothing"):
        answer = worker.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert worker.get("/docs").status_code == 404


def test_a_full_queue_gives_503_with_retry_after(tmp_path: Path, redis: ExternalRedis) -> None:
    shared = {"redis_url": redis.url}
    worker = Encoder(tmp_path, **shared, encode_threads="1", encode_queue="2")
    server = Server(tmp_path, **shared, encoder_url=f"ipv4:{worker.target}")
    for process in (worker, server):
        process.wait_ready()
    ids = [server.upload(p) for p in create_pngs(24)]
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda image_id: server.click(image_id, 40, 30), ids))
    codes = {a.status_code for a in answers}
    assert codes == {200, 503}
    refused = next(a for a in answers if a.status_code == 503)
    assert refused.json()["type"] == "urn:segserve:problem:too_busy"
    assert int(refused.headers["retry-after"]) > 0
    # All of them are from one address.
    assert worker.metric('segserve_rejections_total{reason="client_encode_queue"}') > 0
    for image_id in ids:
        assert server.click(image_id, 40, 30).status_code == 200, "and then it works"
    assert worker.stop() == 0
    assert server.stop() == 0


def test_a_worker_that_cannot_reach_the_object_store_is_sent_the_image(
    tmp_path: Path, redis: ExternalRedis, nuclei: Path
) -> None:
    worker = Encoder(tmp_path / "worker", redis_url=redis.url)
    server = Server(
        tmp_path / "server", redis_url=redis.url, encoder_url=f"ipv4:{worker.target}", send_images="true"
    )
    for process in (worker, server):
        process.wait_ready()
    assert server.click(server.upload(nuclei, normalise="minmax"), 413, 190).status_code == 200
    assert worker.metric(ENCODED) == 1
    assert worker.stop() == 0
    assert server.stop() == 0


def wait_until(server: Server, encoders: str) -> dict[str, str]:
    """Return the checks of /readyz once they say this of the encoders."""
    deadline = time.monotonic() + 60
    while True:
        answer = server.client.get("/readyz")
        checks: dict[str, str] = answer.json()["checks"]
        if checks["encoders"].startswith(encoders):
            assert answer.status_code == 200
            assert answer.json()["status"] == ("ready" if encoders == "ok" else "degraded")
            return checks
        assert time.monotonic() < deadline, checks
        time.sleep(0.1)


def test_a_service_without_encoders_says_so_once_and_says_when_they_are_back(
    tmp_path: Path, redis: ExternalRedis
) -> None:
    encoder = Encoder(tmp_path, redis_url=redis.url, encode_threads="1")
    encoder.kill()
    server = Server(tmp_path, redis_url=redis.url, encoder_url=f"ipv4:{encoder.target}")
    deadline = time.monotonic() + 60
    while "no encoder worker can be reached" not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    server.wait_ready()
    wait_until(server, "no encoder worker can be reached")
    encoder.start()
    encoder.wait_ready()
    wait_until(server, "ok")
    while "an encoder worker can be reached again" not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.log.read_text().count("no encoder worker can be reached") == 1
    answer = server.click(server.upload(create_pngs(1)[0]), 40, 30)
    stages = {
        name: float(ms) for name, ms in re.findall(r"(\w+);dur=([0-9.]+)", answer.headers["server-timing"])
    }
    assert {"wait", "read", "preprocess", "encode", "store"} <= stages.keys(), "the worker's own stages"
    assert server.metric('segserve_stage_seconds_sum{stage="encode"}') > 0
    assert stages["encode"] == pytest.approx(
        1000 * encoder.metric('segserve_stage_seconds_sum{stage="encode"}'), abs=0.01
    )
    assert [process.stop() for process in (server, encoder)] == [0, 0]


def test_what_a_worker_does_not_account_for_is_waiting() -> None:
    timings = Timings()
    told = encoder_pb2.EncodeResponse(
        encoder_seconds=0.5, stage_seconds={"wait": 10.0, "read": 1.0, "encode": 4.0}
    )
    add_stages(timings, told, 17.0)
    assert timings.seconds == {"wait": 12.0, "read": 1.0, "encode": 4.0}
    assert timings.encoder_s == 0.5


def test_an_image_that_another_request_began_costs_waiting_alone() -> None:
    timings = Timings()
    add_stages(timings, encoder_pb2.EncodeResponse(encoder_seconds=0.0), 3.0)
    assert timings.seconds == {"wait": 3.0}
    assert timings.encoder_s == 0.0


def test_the_call_of_a_worker_of_an_older_version_counts_as_encoding() -> None:
    timings = Timings()
    add_stages(timings, encoder_pb2.EncodeResponse(), 3.0)
    assert timings.seconds == {"encode": 3.0}
    assert timings.encoder_s == 3.0
