"""Redis or the service dies: nothing is lost, and only what died must be started again."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segserve.store.private_redis import is_redis_answering
from tests.commands.run_command import run_segserve
from tests.conftest import ExternalRedis
from tests.files import sample_files
from tests.serving import Server


def wait_until(condition: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_redis_dies_and_comes_back(tmp_path: Path, redis: ExternalRedis, nuclei: Path, noise: bytes) -> None:
    server = Server(tmp_path, redis_url=redis.url)
    server.wait_ready()
    held, other = server.upload(nuclei), server.upload(noise)
    before = server.click(held, 413, 190).json()["results"][0]["masks"][0]

    redis.kill()
    answer = server.click(held, 413, 190)
    assert answer.status_code == 200, "images held in the process can still be clicked"
    after = answer.json()["results"][0]["masks"][0]
    assert after["mask"] == before["mask"]
    # The first answer after the loss may have a mask_id, which only this process knows. Then the loss is noticed.
    again = server.click(held, 413, 190).json()["results"][0]["masks"][0]
    assert again["mask_id"] is None, "there is nowhere to keep the mask"
    refused = server.click(other, 10, 10)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["type"] == "urn:segserve:problem:cache_unavailable"
    ready = server.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")

    redis.start()
    wait_until(lambda: server.click(other, 10, 10).status_code == 200)
    assert server.client.get("/readyz").json()["status"] == "ready"
    assert server.click(held, 413, 190).json()["results"][0]["masks"][0]["mask_id"]
    assert server.stop() == 0


def test_without_the_jobs_redis_jobs_are_refused_and_clicks_work(
    tmp_path: Path, redis: ExternalRedis, nuclei: Path
) -> None:
    server = Server(tmp_path, redis_url=redis.url, jobs_redis_url=f"unix://{tmp_path}/none.sock")
    server.wait_ready()
    ready = server.client.get("/readyz").json()
    assert ready["status"] == "degraded"
    assert "jobs' Redis cannot be reached" in ready["checks"]["jobs"]
    image_id = server.upload(nuclei)
    assert server.click(image_id, 413, 190).status_code == 200
    stored = {path for path in (tmp_path / "objects").rglob("*") if path.is_file()}
    body = {"kind": "batch", "input": {"image_ids": [image_id]}, "params": {"operation": "embed"}}
    answer = server.client.post("/v1/jobs", json=body)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:segserve:problem:jobs_unavailable"
    assert {path for path in (tmp_path / "objects").rglob("*") if path.is_file()} == stored, "no orphan"
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("serve", "REDIS_URL"),
        ("serve", "JOBS_REDIS_URL"),
        ("worker", "JOBS_REDIS_URL"),
        ("encoder", "REDIS_URL"),
    ],
)
def test_a_wrong_password_ends_the_start(
    tmp_path: Path, redis: ExternalRedis, command: str, setting: str
) -> None:
    """In one line that names the setting, before anything is left behind."""
    import redis as client

    url = f"unix://{redis.socket}"
    wrong = f"unix://:wrong@{redis.socket}"
    with client.Redis.from_url(url) as connection:
        connection.acl_setuser("default", enabled=True, passwords=["+right"], reset_passwords=True)
    urls = {"REDIS_URL": f"unix://:right@{redis.socket}", "JOBS_REDIS_URL": f"unix://:right@{redis.socket}"}
    environment = {f"SEGSERVE_{name}": value for name, value in {**urls, setting: wrong}.items()}
    port = "--port" if command == "serve" else "--metrics-port"
    done = run_segserve(command, "--data-dir", tmp_path / "data", port, "0", **environment)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert f"The Redis of SEGSERVE_{setting} refuses the user or the password." in last
    assert "Traceback" not in done.stderr
    assert "wrong" not in done.stderr


def test_a_password_that_is_changed_is_told_by_readyz(tmp_path: Path, redis: ExternalRedis) -> None:
    import redis as client

    server = Server(tmp_path, redis_url=redis.url)
    server.wait_ready()
    with client.Redis.from_url(redis.url) as connection:
        connection.acl_setuser("default", enabled=True, passwords=["+right"], reset_passwords=True)
        connection.client_kill_filter(_type="normal", skipme=True)
        connection.client_kill_filter(_type="pubsub", skipme=True)
    wait_until(lambda: "refuses the password" in server.client.get("/readyz").text)
    assert server.stop() == 0


def test_the_private_redis_dies(tmp_path: Path, nuclei: Path) -> None:
    server = Server(tmp_path)
    server.wait_ready()
    pid = int((tmp_path / "redis" / "redis.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    image_id = server.upload(nuclei)
    wait_until(lambda: server.click(image_id, 413, 190).status_code == 200)
    assert int((tmp_path / "redis" / "redis.pid").read_text()) != pid
    assert server.stop() == 0
    assert not is_redis_answering(tmp_path / "redis" / "redis.sock"), "it stops with the service"


def test_the_service_is_killed_and_started_again(tmp_path: Path, nuclei: Path) -> None:
    server = Server(tmp_path)
    server.wait_ready()
    image_id = server.upload(nuclei)
    mask = server.click(image_id, 413, 190).json()["results"][0]["masks"][0]
    server.click(image_id, 413, 190)  # time for the mask to reach Redis, which no answer waits for
    pid = (tmp_path / "redis" / "redis.pid").read_text()
    server.kill()
    assert is_redis_answering(tmp_path / "redis" / "redis.sock"), "a private Redis outlives a killed service"

    server.start()
    server.wait_ready()
    assert (tmp_path / "redis" / "redis.pid").read_text() == pid, "and the next service adopts it"
    assert server.client.get(f"/v1/images/{image_id}").status_code == 200
    assert server.click(image_id, 413, 190).json()["results"][0]["masks"][0]["mask"] == mask["mask"]
    assert 'result="hit",tier="redis"' in server.client.get("/metrics").text, "the embedding was still cached"
    refine = {"points": [[413, 190]], "mask_id": mask["mask_id"]}
    body = {"image_id": image_id, "prompts": [refine]}
    assert server.client.post("/v1/segment", json=body).status_code == 200, "and so was the mask"
    assert server.stop() == 0


def test_two_services_share_one_private_redis(tmp_path: Path, nuclei: Path) -> None:
    """What one deletes the other forgets. The first to stop leaves the server running."""
    first, second = Server(tmp_path), Server(tmp_path)
    first.wait_ready()
    second.wait_ready()
    image_id = first.upload(nuclei)
    assert first.click(image_id, 413, 190).status_code == second.click(image_id, 413, 190).status_code == 200
    assert first.client.delete(f"/v1/images/{image_id}").status_code == 204
    wait_until(lambda: second.click(image_id, 413, 190).status_code == 404)
    assert first.stop() == 0
    assert is_redis_answering(tmp_path / "redis" / "redis.sock")
    assert second.client.get("/readyz").json()["status"] == "ready"
    assert second.stop() == 0


def test_an_evicted_embedding_is_encoded_again(tmp_path: Path, redis: ExternalRedis, nuclei: Path) -> None:
    import redis as client

    server = Server(tmp_path, redis_url=redis.url, prepared_mb="1")  # nothing stays in the process
    image_id = server.upload(nuclei)
    before = server.click(image_id, 413, 190).json()["results"][0]["masks"][0]["mask"]
    with client.Redis.from_url(redis.url) as connection:
        connection.flushall()
    assert server.click(image_id, 413, 190).json()["results"][0]["masks"][0]["mask"] == before
    assert server.stop() == 0


def test_a_hung_redis_does_not_hang_clicks(tmp_path: Path, redis: ExternalRedis, nuclei: Path) -> None:
    """After one command has timed out, clicks on held images do not wait for the next."""
    server = Server(tmp_path, redis_url=redis.url, redis_timeout_s="1")
    server.wait_ready()
    image_id = server.upload(nuclei)
    assert server.click(image_id, 413, 190).status_code == 200
    redis.process.send_signal(signal.SIGSTOP)
    answers_without_waiting = 0
    for _ in range(10):
        answer = server.click(image_id, 413, 190)
        assert answer.status_code == 200
        answers_without_waiting += "remember;dur=0." in answer.headers["server-timing"]
    redis.process.send_signal(signal.SIGCONT)
    assert answers_without_waiting >= 8
    wait_until(
        lambda: server.click(image_id, 413, 190).json()["results"][0]["masks"][0]["mask_id"] is not None
    )
    assert server.stop() == 0


def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_segserve("serve", "--data-dir", tmp_path, "--port", port)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, "one line"
    assert "is in use by another program" in done.stderr
    assert not is_redis_answering(tmp_path / "redis" / "redis.sock"), "nothing is left behind"


def test_one_broken_bundle_hides_nothing(tmp_path: Path, nuclei: Path) -> None:
    broken = tmp_path / "models" / "broken"
    broken.mkdir(parents=True)
    (broken / "model.yaml").write_text("name: [")
    server = Server(tmp_path)
    image_id = server.upload(nuclei)
    names = {m["name"] for m in server.client.get("/v1/models").json()["models"]}
    assert "starter" in names
    assert "broken" not in names
    assert server.client.get("/v1/models/broken").status_code == 409
    assert server.client.delete(f"/v1/images/{image_id}").status_code == 204
    assert server.stop() == 0


def test_old_images_expire(tmp_path: Path, nuclei: Path) -> None:
    server = Server(tmp_path)
    image_id = server.upload(nuclei)
    server.stop()
    time.sleep(1)
    server = Server(tmp_path, retention_days=str(0.5 / 86400))
    wait_until(lambda: server.client.get(f"/v1/images/{image_id}").status_code == 404)
    server.stop()


def test_a_full_quota_refuses_and_a_deletion_frees_it(tmp_path: Path, nuclei: Path) -> None:
    server = Server(tmp_path, quota_mb="1")
    ids = []
    for number in range(20):
        data = nuclei.read_bytes() + bytes(
            number
        )  # trailing bytes are ignored by decoders, and make another image_id
        answer = server.client.post("/v1/images", files={"file": data})
        if answer.status_code == 413:
            break
        ids.append(answer.json()["image_id"])
    assert answer.status_code == 413
    assert "quota" in answer.json()["detail"]
    server.client.delete(f"/v1/images/{ids[0]}")
    assert server.client.post("/v1/images", files={"file": data}).status_code == 201
    server.stop()


def test_files_count_to_the_quota_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", quota_mb="1")
    answers = []
    for number in range(4):
        entries = {
            "a.png": sample_files.encode_frame(number),
            "b": np.random.default_rng(number).bytes(300_000),
        }
        data = sample_files.write_zip(tmp_path / f"{number}.zip", entries).read_bytes()
        answers.append(server.client.post("/v1/files", content=data))
    assert [answer.status_code for answer in answers] == [201, 201, 201, 413]
    assert "quota" in answers[-1].json()["detail"]
    server.client.delete(f"/v1/files/{answers[0].json()['file_id']}")
    assert server.client.post("/v1/files", content=data).status_code == 201
    server.stop()
