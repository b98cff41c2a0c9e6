"""Secrets of settings are shown nowhere: not in logs, answers, metrics, nor by commands, whatever fails."""

import base64
import json
from pathlib import Path

import pytest

from segserve.errors import BadInput
from segserve.settings import Settings, find_secrets, load_settings
from tests.commands.run_command import run_segserve
from tests.redis_topologies import Node, wait_until
from tests.serving import Server, Worker, run_embed_job

MARKER = "hush4711hush4711hush4711hush4711"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(MARKER.encode()).decode()
MARKERS = (MARKER, WEBHOOK_SECRET.removeprefix("whsec_"), base64.b64encode(f":{MARKER}".encode()).decode())


def secrets_for(redis_url: str) -> dict[str, str]:
    """Return a value for each setting that holds a secret."""
    return {
        "redis_url": redis_url,
        "jobs_redis_url": redis_url,
        "label_studio_token": MARKER,
        "dicomweb_authorization": f"Bearer {MARKER}",
        "webhook_secret": WEBHOOK_SECRET,
        "signing_secret": MARKER,
    }


def assert_hushed(text: str, where: str) -> None:
    assert not [marker for marker in MARKERS if marker in text], where


def test_every_secret_is_in_this_test_and_in_no_dump_of_settings(tmp_path: Path) -> None:
    secrets = secrets_for(f"redis://:{MARKER}@localhost/0")
    assert set(secrets) == find_secrets()
    assert_hushed(repr(Settings(data_dir=tmp_path, **secrets)), "repr")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(find_secrets()))
def test_an_error_of_a_secret_does_not_show_it(name: str) -> None:
    with pytest.raises(BadInput) as refusal:
        load_settings(**{name: [MARKER]})
    assert_hushed(str(refusal.value), name)


def test_they_are_in_no_log_answer_or_metric(tmp_path: Path, nuclei: Path) -> None:
    redis = Node(tmp_path / "redis", requirepass=MARKER)
    redis.wait_for_refusal()
    url = f"redis://:{MARKER}@{redis.address}/0"
    (tmp_path / "objects").mkdir()
    shared = {
        **secrets_for(url),
        "object_store": f"file://{tmp_path}/objects",
        "label_studio_url": "http://127.0.0.1:9",
        "webhook_hosts": '["127.0.0.1"]',
        "webhook_private": "true",
        "log_level": "debug",
        "encode_threads": "1",
    }
    server, worker = Server(tmp_path / "server", **shared), Worker(tmp_path / "worker", **shared)
    server.wait_ready()
    image_id = server.upload(nuclei)
    assert server.click(image_id, 413, 190).status_code == 200
    assert run_embed_job(server.client, [image_id])["state"] == "succeeded"
    paths = ["/metrics", "/readyz", "/livez", "/openapi.json", "/v1/version", "/v1/models", "/v1/jobs", "/"]
    answers = {path: server.client.get(path).text for path in paths}
    answers["metrics of the worker"] = worker.client.get("/metrics").text
    environment = {f"SEGSERVE_{name.upper()}": value for name, value in shared.items()}
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = run_segserve(*arguments, "--data-dir", tmp_path / "server", **environment)
        assert "the Redis of SEGSERVE_REDIS_URL answers" in done.stdout, done.stderr
        answers[" ".join(arguments)] = done.stdout + done.stderr
    redis.kill()  # errors are where secrets come out
    answers["a click without Redis"] = server.click("0" * 64, 1, 1).text
    wait_until(lambda: server.client.get("/readyz").json()["status"] != "ready", "Redis is not missed")
    answers["readyz without Redis"] = server.client.get("/readyz").text
    answers["jobs without Redis"] = server.client.get("/v1/jobs").text
    assert server.stop() == worker.stop() == 0
    for process in (server, worker):
        answers[process.log.name] = process.log.read_text()
    for where, text in answers.items():
        assert_hushed(text, where)
    assert json.loads(answers["doctor --json"])["checks"]
