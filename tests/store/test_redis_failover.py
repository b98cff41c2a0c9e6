"""A Redis fails and its replica takes over, while a service works: by Sentinels, and in a cluster."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.redis_topologies import Cluster, SentinelSetup, wait_until
from tests.serving import Server, Worker, run_embed_job

pytestmark = pytest.mark.failover


class Annotator(threading.Thread):
    """`Annotator` clicks until it is stopped, and notes each answer's status and whether it had a mask_id."""

    def __init__(self, server: Server, image_id: str) -> None:
        super().__init__()
        self._server, self._image_id = server, image_id
        self._done = threading.Event()
        self.statuses: list[int] = []
        self.has_mask_id: list[bool] = []

    def run(self) -> None:
        while not self._done.is_set():
            answer = self._server.click(self._image_id, 413, 190)
            self.statuses.append(answer.status_code)
            mask = answer.json()["results"][0]["masks"][0] if answer.status_code == 200 else {}
            self.has_mask_id.append(bool(mask.get("mask_id")))

    def stop(self) -> None:
        self._done.set()
        self.join(120)


@contextmanager
def annotating(server: Server, image_id: str) -> Iterator[Annotator]:
    annotator = Annotator(server, image_id)
    annotator.start()
    try:
        yield annotator
    finally:
        annotator.stop()


def test_sentinels_replace_both_servers_under_clicks_and_a_job(tmp_path: Path, nuclei: Path) -> None:
    cache = SentinelSetup(tmp_path / "cache")
    jobs = SentinelSetup(
        tmp_path / "jobs", appendonly="yes", appendfsync="always", maxmemory_policy="noeviction"
    )
    shared = {
        "redis_url": cache.url,
        "jobs_redis_url": jobs.url,
        "object_store": f"file://{tmp_path}/objects",
        "encode_threads": "1",
    }
    (tmp_path / "objects").mkdir()
    server, worker = Server(tmp_path / "server", **shared), Worker(tmp_path / "worker", **shared)
    try:
        server.wait_ready()
        image_id = server.upload(nuclei)
        ids = [server.upload(nuclei.read_bytes() + bytes(number)) for number in range(1, 25)]
        with annotating(server, image_id) as annotator:
            body = {"kind": "batch", "input": {"image_ids": ids}, "params": {"operation": "embed"}}
            job: dict[str, Any] = server.client.post("/v1/jobs", json=body).json()
            begun = time.monotonic()
            for setup in (cache, jobs):
                setup.master.kill()
            wait_until(lambda: cache.master_port() == cache.replica.port, "no new master of the cache")
            wait_until(lambda: jobs.master_port() == jobs.replica.port, "no new master of the jobs")
            wait_until(
                lambda: server.client.get("/readyz").json()["status"] == "ready", "the service is not ready"
            )
            back_s = time.monotonic() - begun
            deadline = time.monotonic() + 120
            while (state := server.client.get(f"/v1/jobs/{job['job_id']}").json())["state"] != "succeeded":
                assert state["state"] in ("queued", "running"), state
                assert time.monotonic() < deadline, state
                time.sleep(0.1)
            wait_until(lambda: annotator.has_mask_id[-1], "masks are not kept again")
        print(
            f"ready {back_s:.1f} s after the masters were killed; {len(annotator.statuses)} clicks meanwhile"
        )
        assert set(annotator.statuses) == {200}, "the image is held in the process, and can be clicked"
        assert state["progress"]["done"] == len(ids)
        assert run_embed_job(server.client, [image_id])["state"] == "succeeded"
    finally:
        for process in (server, worker):
            assert process.stop() == 0, process.log.read_text()
        cache.close()
        jobs.close()


def test_a_job_that_was_accepted_is_there_after_a_failover(tmp_path: Path, nuclei: Path) -> None:
    """Its answer waits for the replica: the master dies the moment after it."""
    jobs = SentinelSetup(tmp_path / "jobs", appendonly="yes")
    server = Server(tmp_path / "server", redis_url=jobs.url, jobs_redis_url=jobs.url)
    try:
        server.wait_ready()
        image_id = server.upload(nuclei)
        body = {"kind": "batch", "input": {"image_ids": [image_id]}, "params": {"operation": "embed"}}
        job_id = server.client.post("/v1/jobs", json=body).json()["job_id"]
        jobs.master.kill()
        wait_until(lambda: jobs.master_port() == jobs.replica.port, "no new master")
        wait_until(
            lambda: server.client.get(f"/v1/jobs/{job_id}").status_code in (200, 404), "the jobs are away"
        )
        assert server.client.get(f"/v1/jobs/{job_id}").json()["state"] == "queued"
    finally:
        assert server.stop() == 0, server.log.read_text()
        jobs.close()


def test_a_replica_of_a_cluster_takes_over_under_clicks(tmp_path: Path, nuclei: Path) -> None:
    cluster = Cluster(tmp_path / "cluster", replica=True)
    server = Server(tmp_path / "server", redis_url=cluster.url)
    try:
        server.wait_ready()
        ids = [server.upload(nuclei.read_bytes() + bytes(number), model="starter") for number in range(12)]
        with annotating(server, ids[0]) as annotator:
            begun = time.monotonic()
            cluster.nodes[0].kill()
            wait_until(
                lambda: cluster.nodes[3].call("ROLE")[0] == b"master", "the replica does not take over"
            )
            wait_until(
                lambda: server.client.get("/readyz").json()["status"] == "ready", "the service is not ready"
            )
            for image_id in ids:  # of all nodes
                wait_until(
                    lambda image_id=image_id: (  # type: ignore[misc]
                        (answer := server.click(image_id, 413, 190)).status_code == 200
                        and answer.json()["results"][0]["masks"][0]["mask_id"]
                    ),
                    "a click fails, or its mask is not kept",
                )
            back_s = time.monotonic() - begun
        print(f"all is kept again {back_s:.1f} s after a node was killed; {len(annotator.statuses)} clicks")
        assert set(annotator.statuses) == {200}
    finally:
        assert server.stop() == 0, server.log.read_text()
        cluster.close()
