"""Webhooks through a real service, its worker and its Redis."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks

from tests.commands.run_command import run_segserve
from tests.jobs.webhook_receiver import WebhookReceiver
from tests.serving import Server
from tests.wire.responses import accepted_job_id, assert_refused, wait_until_ended

SECRET = "whsec_" + "c2Vnc2VydmU" * 4
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def webhook_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that may send webhooks to this machine."""
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


def receive_webhook(receiver: WebhookReceiver) -> dict[str, Any]:
    """Wait for a webhook, and return its verified body."""
    deadline = time.monotonic() + PATIENCE_S
    while not receiver.received:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [received] = receiver.received
    result: dict[str, Any] = standardwebhooks.Webhook(SECRET).verify(received.body, dict(received.headers))
    return result


def test_a_webhook_is_sent_when_a_job_ends(webhook_server: Server, noise: bytes) -> None:
    with WebhookReceiver().listening() as receiver:
        job_id = accepted_job_id(submit(webhook_server, f"{receiver.url}/done", webhook_server.upload(noise)))
        sent = receive_webhook(receiver)
        job = webhook_server.client.get(f"/v1/jobs/{job_id}").json()
        assert sent == {**job, "tenant": "default", "submitted_by": "local"}
        receiver.received.clear()
        job_id = accepted_job_id(submit(webhook_server, f"{receiver.url}/done"))
        webhook_server.client.delete(f"/v1/jobs/{job_id}")
        assert receive_webhook(receiver)["job_id"] == job_id


def test_a_webhook_is_sent_although_receiver_and_service_failed(webhook_server: Server) -> None:
    """The receiver is away when the job ends, and the service is killed then."""
    receiver = WebhookReceiver()
    with receiver.listening():
        pass
    job_id = accepted_job_id(submit(webhook_server, receiver.url))
    assert wait_until_ended(webhook_server, job_id)["state"] == "succeeded"
    webhook_server.kill()
    with WebhookReceiver(port=receiver.port).listening() as back:
        webhook_server.start()
        assert receive_webhook(back)["job_id"] == job_id


def test_urls_that_are_not_allowed_are_refused_at_once(server: Server, webhook_server: Server) -> None:
    result = assert_refused(submit(server, "https://example.org/"), 403, "not_allowed", "webhook")
    assert "SEGSERVE_WEBHOOK_HOSTS" in result["remedy"]
    assert_refused(submit(webhook_server, "https://example.org/"), 403, "not_allowed", "webhook")
    assert_refused(submit(webhook_server, "ftp://127.0.0.1/"), 422, "bad_input", "webhook")
    assert_refused(submit(webhook_server, ""), 422, "bad_input", "webhook")
    assert_refused(submit(webhook_server, "http://127.0.0.1/" + "x" * 3000), 422, "bad_input", "webhook")


def test_without_a_secret_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSERVE_WEBHOOK_HOSTS", '["example.org"]')
    done = run_segserve("serve", "--port", "0", "--data-dir", tmp_path)
    assert done.returncode == 1
    assert "SEGSERVE_WEBHOOK_SECRET" in done.stderr
    assert "Traceback" not in done.stderr
