"""Jobs over REST, by the worker that the service starts for itself."""

import asyncio
import io
import json
import signal
import time
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask

from segserve.app import Service
from segserve.jobs.engine.job import Job, JobEvent, JobKind, JobState
from segserve.types import Priority
from segserve.wire.rest.jobs import stream_events
from tests.serving import Server
from tests.wire.responses import JOB_TIMEOUT_S, accepted_job_id, read_results, wait_until_ended


def submit(server: Server, image_ids: list[str], operation: str, **more: Any) -> httpx.Response:
    params = {"operation": operation, **more.pop("params", {})}
    body = {"kind": "batch", "input": {"image_ids": image_ids}, "params": params}
    headers = more.pop("headers", {})
    return server.client.post("/v1/jobs", json={**body, **more}, headers=headers)


def events(
    server: Server, job_id: str, after: str | None = None
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The events as (id, event, data), until the stream ends."""
    headers = {} if after is None else {"last-event-id": after}
    with server.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields.get("id"):
                yield fields["id"], fields["event"], json.loads(fields["data"])
                fields = {}


def route_answer(server: Server, image_id: str, operation: str, **options: Any) -> dict[str, Any]:
    body = {"image_id": image_id, "format": "rle", **options}
    answer = server.client.post(f"/v1/{operation}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("operation", "options"),
    [("automatic", {"method": "ais", "params": {"min_size": 60}}), ("semantic", {"threshold": 0.4})],
)
def test_a_batch_answers_as_the_route_does(
    server: Server, nuclei: Path, noise: bytes, operation: str, options: dict[str, Any]
) -> None:
    image_ids = [server.upload(nuclei), server.upload(noise)]
    job_id = accepted_job_id(submit(server, image_ids, operation, params={"options": options}))
    job = wait_until_ended(server, job_id)
    assert (job["state"], job["progress"]["done"], job["progress"]["failed"]) == ("succeeded", 2, 0)
    for index, line in enumerate(read_results(server, job_id)):
        assert line.pop("index") == index
        assert line == route_answer(server, image_ids[index], operation, **options)
    assert [line["index"] for line in read_results(server, job_id, **{"from": 1})] == [1]


def test_results_as_zips_and_data_sets(server: Server, nuclei: Path) -> None:
    image_id = server.upload(nuclei)
    jobs = {
        "automatic": {"method": "ais"},
        "semantic": {"threshold": 0.4},
    }
    for operation, options in jobs.items():
        job_id = accepted_job_id(
            submit(server, [image_id, "missing"], operation, params={"options": options})
        )
        wait_until_ended(server, job_id)
        expected = server.client.post(
            f"/v1/{operation}", json={"image_id": image_id, "format": "npy", **options}
        )
        truth = np.load(io.BytesIO(expected.content))
        name = f"000000-{image_id[:16]}"
        for kind in ("png", "tiff"):
            answer = server.client.get(f"/v1/jobs/{job_id}/results", params={"format": kind})
            assert answer.headers["content-type"] == "application/zip"
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                assert archive.testzip() is None
                assert archive.namelist() == [f"{name}.{kind}", "errors.ndjson"]
                assert "image_not_found" in archive.read("errors.ndjson").decode()
                data = io.BytesIO(archive.read(f"{name}.{kind}"))
            found = np.asarray(Image.open(data)) if kind == "png" else tifffile.imread(data)
            assert np.array_equal(found, truth)
        coco = server.client.get(f"/v1/jobs/{job_id}/results", params={"format": "coco"}).json()
        assert [image["id"] for image in coco["images"]] == [1, 2]
        [lines, _] = read_results(server, job_id)
        assert [item["segmentation"] for item in coco["annotations"]] == [o["mask"] for o in lines["objects"]]
        assert {item["category_id"] for item in coco["annotations"]} == {
            item["id"] for item in coco["categories"]
        }
        assert [mask.area(item["segmentation"]) for item in coco["annotations"]] == [
            item["area"] for item in coco["annotations"]
        ]


def test_a_batch_with_prompts_for_each_image(server: Server, nuclei: Path) -> None:
    image_id = server.upload(nuclei)
    prompts = [{"points": [[413, 190]]}, {"box": [400, 170, 430, 210]}]
    params = {"prompts": {image_id: prompts}, "options": {"select": "first"}}
    job_id = accepted_job_id(submit(server, [image_id], "segment", params=params))
    assert wait_until_ended(server, job_id)["state"] == "succeeded"
    [line] = read_results(server, job_id)
    expected = route_answer(server, image_id, "segment", prompts=prompts, select="first")
    for result in expected["results"]:
        for candidate in result["masks"]:
            del candidate["mask_id"]
    assert line == {"index": 0, **expected}


def test_embeddings_are_ready_before_the_first_click(server: Server, noise: bytes) -> None:
    image_id = server.upload(noise)
    assert (
        wait_until_ended(server, accepted_job_id(submit(server, [image_id], "embed")))["state"] == "succeeded"
    )
    encoded = server.metric('segserve_encoded_images_total{model="starter"}')
    assert server.click(image_id, 30, 20).status_code == 200
    assert server.metric('segserve_encoded_images_total{model="starter"}') == encoded


def test_one_broken_image_fails_alone(server: Server, nuclei: Path) -> None:
    image_id = server.upload(nuclei)
    job_id = accepted_job_id(submit(server, [image_id, "missing", image_id], "embed"))
    job = wait_until_ended(server, job_id)
    assert (job["state"], job["progress"]["failed"]) == ("succeeded", 1)
    lines = read_results(server, job_id)
    assert ["error" in line for line in lines] == [False, True, False]
    assert lines[1]["error"]["type"] == "urn:segserve:problem:image_not_found"


def test_a_job_can_be_followed_from_any_event(server: Server, noise: bytes) -> None:
    job_id = accepted_job_id(submit(server, [server.upload(noise)], "embed"))
    received = list(events(server, job_id))
    assert [name for _, name, _ in received][-1] == "end"
    assert received[0][2]["state"] == "queued"
    assert received[-1][2]["state"] == "succeeded"
    for number, (event_id, _, _) in enumerate(received[:-1]):
        assert list(events(server, job_id, event_id)) == received[number + 1 :]


def test_the_same_request_twice_is_one_job(server: Server, noise: bytes) -> None:
    image_id, headers = server.upload(noise), {"idempotency-key": f"key-{time.time_ns()}"}
    first = accepted_job_id(submit(server, [image_id], "embed", headers=headers))
    assert accepted_job_id(submit(server, [image_id], "embed", headers=headers)) == first
    other = submit(server, [image_id, image_id], "embed", headers=headers)
    assert other.status_code == 422
    assert other.json()["field"] == "idempotency-key"
    listed = server.client.get("/v1/jobs").json()["jobs"]
    assert [job["job_id"] for job in listed].count(first) == 1


def test_a_job_is_cancelled_and_retried(server: Server, noise: bytes) -> None:
    image_id = server.upload(noise)
    job_id = accepted_job_id(
        submit(server, [image_id] * 2000, "automatic", params={"options": {"method": "ais"}})
    )
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while not server.client.get(f"/v1/jobs/{job_id}").json()["progress"]["done"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cancelled = server.client.delete(f"/v1/jobs/{job_id}").json()
    assert cancelled["state"] == "cancelled"
    assert len(read_results(server, job_id)) == cancelled["progress"]["done"]
    retried = server.client.post(f"/v1/jobs/{job_id}/retry")
    assert (retried.status_code, retried.json()["state"]) == (202, "queued")
    again = server.client.post(f"/v1/jobs/{job_id}/retry")
    assert (again.status_code, again.json()["field"]) == (422, "job_id")
    assert server.client.delete(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"
    kept = server.client.delete(f"/v1/jobs/{job_id}")
    assert (kept.status_code, kept.json()["state"]) == (200, "cancelled")


def test_a_job_that_has_ended_is_deleted_with_its_results(server: Server, noise: bytes) -> None:
    headers = {"idempotency-key": "a job that is deleted"}
    image_id = server.upload(noise)
    job_id = accepted_job_id(submit(server, [image_id], "embed", headers=headers))
    wait_until_ended(server, job_id)
    deleted = server.client.delete(f"/v1/jobs/{job_id}", params={"delete_ended": True})
    assert (deleted.status_code, deleted.content) == (204, b"")
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/results", f"/v1/jobs/{job_id}/events"):
        assert server.client.get(path).status_code == 404
    assert server.client.delete(f"/v1/jobs/{job_id}").status_code == 404
    assert job_id not in [job["job_id"] for job in server.client.get("/v1/jobs").json()["jobs"]]
    assert not list(server.data_dir.rglob(f"*{job_id}*"))
    again = accepted_job_id(submit(server, [image_id], "embed", headers=headers))
    assert again != job_id
    assert wait_until_ended(server, again)["state"] == "succeeded"


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"operation": "embed", "params": {"options": {"x": 1}}}, 422, "params.options"),
    ({"operation": "embed", "params": {"prompts": {"a": [{"points": [[1, 2]]}]}}}, 422, "params.prompts"),
    ({"operation": "segment"}, 422, "params.prompts"),
    ({"operation": "automatic", "params": {"options": {"method": "magic"}}}, 422, "params.options.method"),
    ({"operation": "automatic", "params": {"options": {"method": "ais", "format": "png"}}}, 422,
     "params.options.format"),
    ({"operation": "similar", "params": {"options": {"examples": [{"points": [[1, 2]]}]}}}, 422,
     "params.options.example_image_id"),
    ({"operation": "similar", "params": {"options": {"example_image_id": "nobody"}}}, 404,
     "params.options.example_image_id"),
    ({"operation": "semantic", "model": "starter"}, 422, "model"),
    ({"operation": "embed", "model": "nobody"}, 404, "model"),
    ({"operation": "fly"}, 422, "params.operation"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "status", "field"), BAD)
def test_invalid_jobs_are_refused_at_once(
    server: Server, changes: dict[str, Any], status: int, field: str
) -> None:
    answer = submit(server, ["a"], **changes)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert answer.json()["remedy"]


def test_unknown_jobs_are_not_found(server: Server) -> None:
    for method, path in [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/results"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ]:
        answer = server.client.request(method, f"/v1/jobs/nobody{path}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:segserve:problem:job_not_found"


def test_a_job_outlives_a_kill_of_everything(tmp_path: Path, noise: bytes) -> None:
    server = Server(tmp_path)
    server.wait_ready()
    image_id = server.upload(noise)
    job_id = accepted_job_id(
        submit(server, [image_id] * 48, "automatic", params={"options": {"method": "ais"}})
    )
    for _, _, job in events(server, job_id):
        if job["progress"]["done"]:
            break
    server.kill()
    server.start()
    try:
        job = wait_until_ended(server, job_id)
        assert (job["state"], job["progress"]["done"]) == ("succeeded", 48)
        lines = read_results(server, job_id)
        assert [line.pop("index") for line in lines] == list(range(48))
        assert all(line == lines[0] for line in lines)
    finally:
        assert server.stop() == 0, server.log.read_text()


def test_replicas_without_a_jobs_redis_say_so(tmp_path: Path, server: Server) -> None:
    replica = Server(tmp_path, redis_url=f"unix://{server.data_dir / 'redis' / 'redis.sock'}")
    try:
        answer = submit(replica, ["a"], "embed")
        assert answer.status_code == 403
        assert "SEGSERVE_JOBS_REDIS_URL" in answer.json()["remedy"]
    finally:
        assert replica.stop() == 0


def test_a_shutdown_does_not_wait_for_followers(tmp_path: Path, noise: bytes) -> None:
    server = Server(tmp_path, job_workers="false")
    server.wait_ready()
    job_id = accepted_job_id(submit(server, [server.upload(noise)], "embed"))
    begun = time.monotonic()
    with httpx.stream("GET", f"{server.url}/v1/jobs/{job_id}/events", timeout=60) as following:
        lines = following.iter_lines()
        assert next(lines).startswith("id: ")
        server.process.send_signal(signal.SIGTERM)
        assert not [line for line in lines if line.startswith("event: end")], "it ends without an end"
    assert server.stop() == 0
    assert time.monotonic() - begun < 15, "less than the grace time of running requests"


def test_a_stream_of_events_ends_when_the_service_stops_though_events_go_on() -> None:
    job = Job("t", "j", JobKind.BATCH, Priority.BATCH, "starter", JobState.RUNNING, 0.0)
    event = JobEvent("1-0", job, 0)
    service = SimpleNamespace(closing=asyncio.Event())

    async def endless() -> AsyncIterator[JobEvent | None]:
        while True:
            yield event

    async def count_parts() -> int:
        count = 0
        async for _ in stream_events(cast(Service, service), event, endless()):
            count += 1
            if count == 3:
                service.closing.set()
            assert count < 10
        return count

    assert asyncio.run(count_parts()) == 3
