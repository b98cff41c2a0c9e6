"""Objects followed by SAM 2's memory, over REST, by worker processes that are killed meanwhile."""

import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from pycocotools import mask as coco

from segserve.masks import crop
from segserve.sam2_memory.network_steps import Sam2VideoNetwork
from segserve.sam2_memory.session import Sam2Session
from tests.files import sample_files
from tests.sam2_memory import reference
from tests.sam2_memory.test_network_steps import write_bundle
from tests.serving import Server, ServerStartedAnew
from tests.wire.responses import JOB_TIMEOUT_S, accepted_job_id, read_results, wait_until_ended

EDGE = 128
CHUNK = 8
OBJECTS = [
    {"object_id": 4, "prompts": [{"frame": 0, "points": [[50, 30]]}]},
    {"object_id": 2, "prompts": [{"frame": 2, "box": [20, 70, 60, 110]}]},
]


@pytest.fixture(scope="module")
def memory_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("memory")
    (models := folder / "models" / "m").mkdir(parents=True)
    write_bundle(models, f"hiera_{reference.TINY}")
    # Its worker is found among its children.
    server = ServerStartedAnew(folder, job_lease_s="1", encode_threads="1")
    server.wait_ready()
    yield server
    assert server.stop() == 0


def upload_clip(server: Server, folder: Path, count: int) -> str:
    pictures = {
        f"{i:04d}.png": sample_files.encode_png(frame) for i, frame in enumerate(reference.frames(count))
    }
    path = sample_files.write_zip(folder / "clip.zip", pictures)
    file_id: str = server.client.post("/v1/files", content=path.read_bytes()).json()["file_id"]
    return file_id


def submit(server: Server, file_id: str, **params: Any) -> str:
    options = {"engine": "memory", "image_size": EDGE, "objects": OBJECTS, **params}
    body = {"kind": "video", "model": "m", "input": {"file_id": file_id}, "params": options}
    return accepted_job_id(server.client.post("/v1/jobs", json=body))


def read_bytes(server: Server, job_id: str) -> bytes:
    return server.client.get(f"/v1/jobs/{job_id}/results").content


def find_worker_pids(server: Server) -> list[int]:
    """The processes that run the jobs of the server."""
    result = subprocess.run(
        ["pgrep", "-P", str(server.process.pid), "-f", "segserve.cli worker"], capture_output=True, text=True
    )
    return [int(pid) for pid in result.stdout.split()]


def test_models_say_how_they_follow_objects(memory_server: Server) -> None:
    engines = {m["name"]: m["engines"] for m in memory_server.client.get("/v1/models").json()["models"]}
    assert engines["m"] == ["memory", "projection"]
    assert engines["starter"] == ["projection"]
    assert engines["starter-unet"] == []


@pytest.mark.parametrize("raw", [True, False])
def test_a_job_answers_what_the_engine_computes(memory_server: Server, tmp_path: Path, raw: bool) -> None:
    job = wait_until_ended(
        memory_server, submit(memory_server, upload_clip(memory_server, tmp_path, reference.COUNT), raw=raw)
    )
    assert (job["state"], job["progress"]["total"]) == ("succeeded", reference.COUNT), job
    lines = read_results(memory_server, job["job_id"])
    assert [line["frame"] for line in lines] == list(range(reference.COUNT))
    kept = write_bundle(tmp_path, f"hiera_{reference.TINY}")
    network = Sam2VideoNetwork.load(kept, image_size=EDGE)
    session = Sam2Session(network, reference.SIZE, reference.COUNT, raw=raw)
    frames = reference.frames()
    session.add_prompt(0, frames[0], 4, reference.points((50, 30, 1)))
    session.add_prompt(2, frames[2], 2, reference.box(20, 70, 60, 110))
    known: set[int] = set()
    for line, frame in zip(lines, frames, strict=True):
        expected = session.track(line["frame"], frame)
        result = {item["object_id"]: coco.decode(item["mask"]).astype(bool) for item in line["objects"]}
        for object_id, item in expected.items():
            mask = crop.to_mask(item.crop)
            assert np.array_equal(result.get(object_id, np.zeros_like(mask)), mask)
        missing = {item["object_id"] for item in line.get("missing", [])}
        assert missing == known - result.keys()
        known |= result.keys()


def test_a_correction_goes_on_from_a_state_before_it(memory_server: Server, tmp_path: Path) -> None:
    file_id = upload_clip(memory_server, tmp_path, 9 * CHUNK)
    job_id = submit(memory_server, file_id, direction="forward")
    wait_until_ended(memory_server, job_id)
    states = list(memory_server.data_dir.glob(f"objects/**/{job_id}/**/*.state"))
    assert len(states) == 2, "after eight chunks, and the last"
    before = read_bytes(memory_server, job_id).splitlines()
    more = {
        "objects": [
            {"object_id": 4, "prompts": [{"frame": 66, "points": [[90, 60]], "labels": [0]}]},
            {"object_id": 9, "prompts": [{"frame": 69, "points": [[30, 30]]}]},
        ]
    }
    answer = memory_server.client.post(f"/v1/jobs/{job_id}/prompts", json=more)
    assert (answer.status_code, answer.json()["progress"]["done"]) == (202, 8 * CHUNK)
    assert wait_until_ended(memory_server, job_id)["state"] == "succeeded"
    after = read_bytes(memory_server, job_id).splitlines()
    assert after[:66] == before[:66]
    assert after[66:] != before[66:]
    known = [{item["object_id"] for item in json.loads(line)["objects"]} for line in after]
    assert all(9 not in result for result in known[:69])


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.large)])
def test_workers_are_killed_and_the_results_are_the_same(
    memory_server: Server, tmp_path: Path, kills: int
) -> None:
    file_id = upload_clip(memory_server, tmp_path, 3 * CHUNK * kills)
    undisturbed = submit(memory_server, file_id)
    assert wait_until_ended(memory_server, undisturbed)["state"] == "succeeded"
    rng, job_id, killed = random.Random(kills), submit(memory_server, file_id), set[int]()
    for kill in range(kills):
        kill_at = rng.randrange(3 * CHUNK * kill, 3 * CHUNK * kill + 2 * CHUNK)
        deadline = time.monotonic() + JOB_TIMEOUT_S
        while (job := memory_server.client.get(f"/v1/jobs/{job_id}").json())["progress"]["done"] < kill_at:
            assert time.monotonic() < deadline, job
            time.sleep(0.02)
        time.sleep(rng.random() / 2)
        for pid in find_worker_pids(memory_server):
            subprocess.run(["kill", "-9", str(pid)], check=False)
            killed.add(pid)
    job = wait_until_ended(memory_server, job_id)
    assert (job["state"], job["progress"]["done"]) == ("succeeded", 3 * CHUNK * kills), job
    assert len(killed) == kills
    assert read_bytes(memory_server, job_id) == read_bytes(memory_server, undisturbed)
    with memory_server.client.stream("GET", f"/v1/jobs/{job_id}/events") as events:
        states = [json.loads(line[6:]) for line in events.iter_lines() if line.startswith("data: ")]
    done = [item["progress"]["done"] for item in states]
    assert done == sorted(done), "nothing that was published is lost"
    assert set(range(0, 3 * CHUNK * kills + 1, CHUNK)) == set(done), "nor published twice, or in another way"
