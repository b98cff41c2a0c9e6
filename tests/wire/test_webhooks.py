"""Webhooks through a real service, its worker and its Redis."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks

from tests.jobs.webhook_receiver import WebhookReceiver
from tests.serving import Server
from tests.wire.test_bad_input import refused
from tests.wire.test_jobs import accepted, ended

SECRET = "whsec_" + "c2Vnc2VydmU" * 4
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that may tell this machine."""
    running = Server(
        tmp_path_factory.mktemp("telling"),
        webhook_hosts='["127.0.0.1"]',
        webhook_private="true",
        webhook_secret=SECRET,
    )
    running.wait_ready()
    yield running
    running.stop()


def submit(server: Server, webhook: str, *image_ids: str) -> httpx.Response:
    body = {
        "kind": "batch",
        "input": {"image_ids": image_ids or ["missing"]},
        "params": {"operation": "embed"},
        "webhook": webhook,
    }
    return server.client.post("/v1/jobs", json=body)


def told(receiver: WebhookReceiver) -> dict[str, Any]:
    """What came, once something did."""
    deadline = time.monotonic() + PATIENCE_S
    while not receiver.received:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [received] = receiver.received
    found: dict[str, Any] = standardwebhooks.Webhook(SECRET).verify(received.body, dict(received.headers))
    return found


def test_a_job_tells_that_it_ended(telling: Server, noise: bytes) -> None:
    with WebhookReceiver().listening() as receiver:
        job_id = accepted(submit(telling, f"{receiver.url}/done", telling.upload(noise)))
        assert told(receiver) == telling.client.get(f"/v1/jobs/{job_id}").json()
        receiver.received.clear()
        job_id = accepted(submit(telling, f"{receiver.url}/done"))
        telling.client.delete(f"/v1/jobs/{job_id}")
        assert told(receiver)["job_id"] == job_id


def test_it_is_told_although_all_died_before(telling: Server) -> None:
    """The receiver is away when the job ends, and then so is the service."""
    receiver = WebhookReceiver()
    with receiver.listening():
        pass
    job_id = accepted(submit(telling, receiver.url))
    assert ended(telling, job_id)["state"] == "succeeded"
    telling.kill()
    with WebhookReceiver(port=receiver.port).listening() as back:
        telling.start()
        assert told(back)["job_id"] == job_id


def test_what_may_not_be_told_is_refused_at_once(server: Server, telling: Server) -> None:
    found = refused(submit(server, "https://example.org/"), 403, "not_allowed", "webhook")
    assert "SEGSERVE_WEBHOOK_HOSTS" in found["remedy"]
    refused(submit(telling, "https://example.org/"), 403, "not_allowed", "webhook")
    refused(submit(telling, "ftp://127.0.0.1/"), 422, "bad_input", "webhook")
    refused(submit(telling, ""), 422, "bad_input", "webhook")
    refused(submit(telling, "http://127.0.0.1/" + "x" * 3000), 422, "bad_input", "webhook")


def test_without_a_secret_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSERVE_WEBHOOK_HOSTS", '["example.org"]')
    command = [sys.executable, "-m", "segserve.cli", "serve", "--port", "0", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "SEGSERVE_WEBHOOK_SECRET" in done.stderr
    assert "Traceback" not in done.stderr
