"""What one tenant has is not there for another: in every route with an id, and in all that frontends remember.

Both tenants come from one address: keys alone keep them apart.
"""

import base64
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from segserve.wire.route_rights import ROUTE_RIGHTS
from tests.key_files import IDENTITIES, write_key_file
from tests.serving import JOB_TIMEOUT_S, Server, run_embed_job

CLICK = {"prompts": [{"points": [[413, 190]]}]}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_key_file(tmp_path_factory.getbasetemp() / "tenants.json", IDENTITIES)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tokens: dict[str, str]) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("tenants"), keys_file=str(tmp_path_factory.getbasetemp() / "tenants.json")
    )
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


@pytest.fixture(scope="module")
def owner(service: Server, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with client_of(service, tokens["annotator"]) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(service: Server, tokens: dict[str, str]) -> Iterator[httpx.Client]:
    with client_of(service, tokens["stranger"]) as client:
        yield client


def client_of(service: Server, token: str) -> httpx.Client:
    return httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.fixture(scope="module")
def ids(owner: httpx.Client, nuclei: Path, cells: Path) -> dict[str, str]:
    """What the owner has: by the names that the paths of routes give it."""
    image = owner.post("/v1/images", content=nuclei.read_bytes())
    file = owner.post("/v1/files", content=cells.read_bytes())
    assert (image.status_code, file.status_code) == (201, 201), file.text
    job = run_embed_job(owner, [image.json()["image_id"]])
    return {"image_id": image.json()["image_id"], "file_id": file.json()["file_id"], "job_id": job["job_id"]}


@pytest.fixture(scope="module")
def tissue(nuclei: Path) -> Path:
    """A small picture that nobody else has uploaded."""
    return nuclei.with_name("cells.png")


@pytest.fixture(scope="module")
def cells(nuclei: Path) -> Path:
    return nuclei.with_name("cells.tif")


OTHERS = {"level": "0", "x": "0", "y": "0", "frame": "0"}
BODIES: dict[str, Any] = {
    "/v1/images/{image_id}/similar": {"examples": [{"points": [[413, 190]]}]},
    "/v1/images/{image_id}/segment": CLICK,
    "/v1/images/{image_id}/segment.png": CLICK,
    "/v1/jobs/{job_id}/prompts": {
        "objects": [{"object_id": 1, "prompts": [{"frame": 0, "points": [[5, 5]]}]}]
    },
}
ROUTES = [
    (method, path) for method, path in ROUTE_RIGHTS if re.match(r"/v1/(images|files|jobs)/\{\w+_id\}", path)
]


def call(client: httpx.Client, method: str, path: str, ids: dict[str, str]) -> tuple[int, str]:
    """Return the status, and the text of the answer without the ids."""
    url = path.format(**ids, **OTHERS) + ("?model=starter" if path.endswith("embedding") else "")
    options: dict[str, Any] = {"json": BODIES.get(path, {})} if method == "POST" else {}
    if path.endswith("/labels"):
        options = {"content": b"no volume"}
    answer = client.request(method, url, **options)
    text = answer.text
    for value in ids.values():
        text = text.replace(value, "ID")
    return answer.status_code, text


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_not_yours_and_not_there_are_one_answer(
    stranger: httpx.Client, ids: dict[str, str], method: str, path: str
) -> None:
    nobodys = {"image_id": "0" * 64, "file_id": "0" * 64, "job_id": "0" * len(ids["job_id"])}
    theirs = call(stranger, method, path, ids)
    assert theirs == call(stranger, method, path, nobodys)
    # There is no model of that kind here, which is said first.
    assert theirs[0] == (422 if path.endswith("/instances") else 404), theirs


def test_the_owner_still_has_all_of_it(owner: httpx.Client, ids: dict[str, str]) -> None:
    for path in ("/v1/images/{image_id}", "/v1/files/{file_id}", "/v1/jobs/{job_id}"):
        assert owner.get(path.format(**ids)).status_code == 200


def test_ids_in_bodies_are_looked_up_in_the_tenant_too(
    owner: httpx.Client, stranger: httpx.Client, ids: dict[str, str]
) -> None:
    body = {"image_id": ids["image_id"], **CLICK}
    mask = owner.post("/v1/segment", json=body).json()["results"][0]["masks"][0]
    assert stranger.post("/v1/segment", json=body).status_code == 404
    frame = {"file_id": ids["file_id"], "frame": 0}
    assert stranger.post("/v1/images", json=frame).status_code == 404
    batch = {"kind": "batch", "input": {"image_ids": [ids["image_id"]]}, "params": {"operation": "embed"}}
    refused = stranger.post("/v1/jobs", json=batch)
    if refused.status_code == 202:  # images are looked up when their turn comes
        job = run_embed_job(stranger, [ids["image_id"]])
        assert "image_not_found" in stranger.get(f"/v1/jobs/{job['job_id']}/results").text
    video = {"kind": "video", "input": {"file_id": ids["file_id"]}, "params": {"objects": [
        {"object_id": 1, "prompts": [{"frame": 0, "points": [[5, 5]]}]}]}}  # fmt: skip
    assert stranger.post("/v1/jobs", json=video).status_code == 404
    assert stranger.get("/v1/jobs").json()["jobs"] == [] or ids["job_id"] not in stranger.get("/v1/jobs").text

    # The same picture, uploaded by the other tenant: its masks are others.
    uploaded = stranger.post("/v1/images", content=Path("examples/nuclei.png").read_bytes()).json()
    assert uploaded["image_id"] == ids["image_id"]
    refined = {"image_id": ids["image_id"], "prompts": [{**CLICK["prompts"][0], "mask_id": mask["mask_id"]}]}
    assert owner.post("/v1/segment", json=refined).status_code == 200
    answer = stranger.post("/v1/segment", json=refined)
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("mask_not_found")
    assert stranger.delete(f"/v1/images/{ids['image_id']}").status_code == 204
    assert owner.get(f"/v1/images/{ids['image_id']}").status_code == 200


def test_jobs_look_into_the_tenant_that_submitted_them(stranger: httpx.Client, tissue: Path) -> None:
    image_id = stranger.post("/v1/images", content=tissue.read_bytes()).json()["image_id"]
    for operation, model in (("automatic", "starter"), ("semantic", "starter-unet")):
        body = {"kind": "batch", "model": model, "input": {"image_ids": [image_id]},
                "params": {"operation": operation}}  # fmt: skip
        job = wait_for_end(stranger, stranger.post("/v1/jobs", json=body).json())
        assert (job["state"], job["progress"]["failed"]) == ("succeeded", 0), job


def wait_for_end(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
        job = client.get(f"/v1/jobs/{job['job_id']}").json()
    return job


def test_idempotency_keys_are_of_their_tenant(
    owner: httpx.Client, stranger: httpx.Client, cells: Path
) -> None:
    jobs = []
    for client in (owner, stranger):
        file_id = client.post("/v1/files", content=cells.read_bytes()).json()["file_id"]
        body = {"kind": "video", "input": {"file_id": file_id}, "params": {"objects": [
            {"object_id": 1, "prompts": [{"frame": 0, "points": [[55, 57]]}]}]}}  # fmt: skip
        answer = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "the same"})
        assert answer.status_code == 202, answer.text
        jobs.append(answer.json()["job_id"])
    assert jobs[0] != jobs[1]
    for client, job_id in zip((owner, stranger), jobs, strict=True):
        assert client.delete(f"/v1/jobs/{job_id}").status_code == 200


def test_sessions_are_of_their_tenant(owner: httpx.Client, stranger: httpx.Client, nuclei: Path) -> None:
    picture = base64.b64encode(nuclei.read_bytes()).decode()
    body = {"model": "starter@video", "frames": [picture] * 2}
    session_id = owner.post("/x-anylabeling/v1/video/init", json=body).json()["data"]["session_id"]
    path = f"/x-anylabeling/v1/video/cleanup/{session_id}"
    theirs = stranger.post(path)
    unknown = stranger.post("/x-anylabeling/v1/video/cleanup/none")
    assert theirs.text.replace(session_id, "none") == unknown.text
    assert owner.post(path).json()["success"] is True

    token = owner.post("/nninteractive/claim").json()["lease_token"]
    lease = {"X-Lease-Token": token}
    assert stranger.post("/nninteractive/heartbeat", headers=lease).is_error
    assert owner.post("/nninteractive/heartbeat", headers=lease).is_success
    assert owner.post("/nninteractive/release", headers=lease).is_success

    files = {"files": ("nuclei.png", nuclei.read_bytes())}
    session_id = owner.put("/monai/session/", files=files).json()["session_id"]
    assert stranger.get(f"/monai/session/{session_id}").status_code == 404
    assert owner.get(f"/monai/session/{session_id}").status_code == 200
    assert stranger.delete(f"/monai/session/{session_id}").status_code == 404
    assert owner.delete(f"/monai/session/{session_id}").status_code == 200


def test_the_datastore_of_monai_label_is_of_its_tenant(
    owner: httpx.Client, stranger: httpx.Client, nuclei: Path
) -> None:
    files = {"file": ("nuclei.png", nuclei.read_bytes())}
    assert owner.put("/monai/datastore/image?image=scan", files=files).status_code == 200
    assert owner.get("/monai/datastore/").json()["total"] == 1
    assert stranger.get("/monai/datastore/").json()["total"] == 0
    assert stranger.get("/monai/datastore/?output=all").json()["objects"] == {}
    assert stranger.get("/monai/datastore/image?image=scan").status_code == 404
    assert stranger.delete("/monai/datastore/?id=scan").status_code == 404
    started = owner.post("/monai/batch/infer/starter_automatic?images=all")
    assert started.status_code == 200, started.text
    assert stranger.get("/monai/batch/infer").status_code == 404
    assert stranger.delete("/monai/batch/infer").status_code == 404
    assert owner.get("/monai/batch/infer").status_code == 200


def test_projects_of_label_studio_are_of_their_tenant(owner: httpx.Client, stranger: httpx.Client) -> None:
    setup = {
        "project": "7.1",
        "schema": "<View><Image name='image' value='$image'/>"
        "<BrushLabels name='tag' toName='image'><Label value='Cell'/></BrushLabels></View>",
        "hostname": "http://127.0.0.1:1",
        "access_token": "secret",
        "extra_params": {},
    }
    assert owner.post("/label-studio/setup", json=setup).status_code == 200
    tasks = {"tasks": [{"id": 1, "data": {"image": "/data/upload/1/a.png"}}], "project": "7.1",
             "label_config": setup["schema"], "params": {"context": None}}  # fmt: skip
    theirs = stranger.post("/label-studio/predict", json=tasks)
    unknown = stranger.post("/label-studio/predict", json={**tasks, "project": "8.1"})
    assert theirs.text.replace("7.1", "8.1") == unknown.text
    assert owner.post("/label-studio/predict", json=tasks).text != theirs.text
    assert stranger.post("/label-studio/delete", json={"project": "7.1"}).status_code == 200
    assert owner.post("/label-studio/predict", json=tasks).text != theirs.text
