"""`make chaos`: what dies, fills up or goes away under clicks and batch jobs of two tenants costs nothing but time.

Clients see 503, 507 and connections that break, and nothing else; no mask is wrong; the results of jobs are those of an
undisturbed run. CHAOS_SEED repeats a run, CHAOS_S is how many seconds each part is disturbed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.deployment import TENANTS, Deployment, Story, wait_until
from tests.chaos.tenant import Tenant

pytestmark = pytest.mark.chaos

SEED = int(os.environ.get("CHAOS_SEED", time.time_ns() % 100_000))
DISTURBED_S = float(os.environ.get("CHAOS_S", 60))
IMAGES = 40  # of each tenant: two parts of a job
CLIENTS = 2  # of each tenant
SETTLED_S = 120.0
DISK_MB = 64


@contextmanager
def disturbed_tenants(deployment: Deployment, story: Story) -> Iterator[list[Tenant]]:
    """Run clicks and a job of each tenant around the block, and compare with what was answered before it."""
    story.tell(f"seed {SEED}")
    tenants = [
        Tenant(name, deployment.keys[name], deployment.servers, SEED + n) for n, name in enumerate(TENANTS)
    ]
    for tenant in tenants:
        tenant.upload(IMAGES)
        tenant.click_all()
    undisturbed = [tenant.finish_job(tenant.submit_job(), story) for tenant in tenants]
    story.tell("two jobs and all clicks are done undisturbed")

    jobs = [[tenant.submit_job()] for tenant in tenants]
    for tenant in tenants:
        tenant.begin_clicking(CLIENTS)
    try:
        with more_jobs(tenants, jobs):
            yield tenants
    finally:
        for tenant in tenants:
            tenant.end_clicking()
    for tenant, job_ids, lines in zip(tenants, jobs, undisturbed, strict=True):
        for job_id in job_ids:
            assert tenant.finish_job(job_id, story) == lines, (
                "the results differ from those of the undisturbed run"
            )
        story.tell(f"{tenant.name}: {len(job_ids)} jobs as undisturbed; answers: {dict(tenant.answers)}")
        tenant.check()
        stranger = next(other for other in tenants if other is not tenant)
        answer = deployment.servers[0].client.get(
            f"/v1/jobs/{job_ids[0]}", headers={"authorization": f"Bearer {deployment.keys[stranger.name]}"}
        )
        assert answer.status_code == 404, "another tenant's job"


@contextmanager
def more_jobs(tenants: list[Tenant], jobs: list[list[str]]) -> Iterator[None]:
    """Submit another job whenever a tenant's last has ended, so that there is work all the time."""
    end = threading.Event()

    def keep_submitting(tenant: Tenant, job_ids: list[str]) -> None:
        try:
            while not end.wait(1.0):
                if tenant.read_job(job_ids[-1])["state"] == "succeeded":
                    job_ids.append(tenant.submit_job())
        except AssertionError as error:
            tenant.faults.append(str(error))

    threads = [
        threading.Thread(target=keep_submitting, args=pair) for pair in zip(tenants, jobs, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


@contextmanager
def running(folder: Path, **options: str) -> Iterator[Deployment]:
    deployment = Deployment(folder, **options)
    try:
        yield deployment
    finally:
        deployment.stop()


def test_everything_is_killed_again_and_again(tmp_path: Path) -> None:
    story, rng, kills = Story(), random.Random(SEED), 0
    with running(tmp_path) as deployment, disturbed_tenants(deployment, story):
        until = time.monotonic() + DISTURBED_S
        while time.monotonic() < until:
            time.sleep(rng.uniform(0.5, 4.0))
            name, victim = rng.choice(list(deployment.parts.items()))
            pause_s = rng.choice((0.0, rng.uniform(0.0, 3.0)))
            victim.kill()
            kills += 1
            story.tell(f"kill -9 {name}; started again after {pause_s:.1f} s")
            time.sleep(pause_s)
            victim.start()
        for server in deployment.servers:
            wait_until(lambda server=server: server.client.get("/readyz").json()["status"] == "ready",  # type: ignore[misc]
                       SETTLED_S, "ready again")  # fmt: skip
        story.tell(f"{kills} kills; all is ready")


def test_redis_hangs(tmp_path: Path) -> None:
    """A server that answers nothing, as on a machine that swaps, is worse than one that is gone."""
    story, rng = Story(), random.Random(SEED)
    with running(tmp_path) as deployment, disturbed_tenants(deployment, story):
        until = time.monotonic() + DISTURBED_S / 2
        while time.monotonic() < until:
            time.sleep(rng.uniform(2.0, 5.0))
            name = rng.choice(("the cache's Redis", "the jobs' Redis"))
            process, pause_s = deployment.parts[name].process, rng.uniform(1.0, 8.0)
            story.tell(f"{name} hangs for {pause_s:.1f} s")
            process.send_signal(signal.SIGSTOP)
            time.sleep(pause_s)
            process.send_signal(signal.SIGCONT)


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk: needs root and Linux"
)
def test_the_disk_of_the_object_store_is_full(tmp_path: Path) -> None:
    story, disk = Story(), tmp_path / "data" / "objects"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0700", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        with running(tmp_path) as deployment, disturbed_tenants(deployment, story) as tenants:
            for _ in range(2):
                fill = disk / "fill"
                with fill.open("wb") as file:
                    try:
                        while True:
                            file.write(b"\0" * 65536)
                            file.flush()
                    except OSError:
                        pass
                story.tell(f"the disk is full: {shutil.disk_usage(disk).free} bytes are free")
                time.sleep(DISTURBED_S / 4)
                fill.unlink(missing_ok=True)
                story.tell("there is room again")
                time.sleep(DISTURBED_S / 8)
            assert any(tenant.answers["507"] for tenant in tenants), "an upload was told so"
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_the_object_store_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    story, rng = Story(), random.Random(SEED)
    store = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
        "AWS_ALLOW_HTTP": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    create_bucket(environment, "chaos")
    try:
        with running(tmp_path, object_store="s3://chaos") as deployment, disturbed_tenants(deployment, story):
            until = time.monotonic() + DISTURBED_S
            while time.monotonic() < until:
                time.sleep(rng.uniform(3.0, 8.0))
                pause_s = rng.uniform(1.0, 10.0)
                story.tell(f"the object store is away for {pause_s:.1f} s")
                store.stop()
                time.sleep(pause_s)
                # The same port, and what was stored: moto keeps it in this process.
                store = moto.ThreadedMotoServer(ip_address=host, port=port, verbose=False)
                store.start()
    finally:
        store.stop()


def create_bucket(environment: dict[str, str], name: str) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name="eu-central-1")
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
