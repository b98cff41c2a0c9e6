"""The client of a running service: upload, job, results."""

import json
from pathlib import Path
from typing import Any

import pytest

from segserve.commands.output_file import write_atomically
from segserve.commands.server_client import ServerClient
from segserve.errors import BadInput
from segserve.wire.results.job_formats import JobFormat
from tests.files import sample_files
from tests.serving import Server


@pytest.fixture
def client(server: Server) -> ServerClient:
    return ServerClient(server.client)


def automatic_batch(image_ids: list[str]) -> dict[str, Any]:
    return {
        "kind": "batch",
        "input": {"image_ids": image_ids},
        "params": {"operation": "automatic", "options": {"method": "ais"}},
    }


def test_a_file_is_uploaded_as_it_is(tmp_path: Path, client: ServerClient, server: Server) -> None:
    file_id = client.upload_file(sample_files.write_video(tmp_path / "clip.mp4", 20))["file_id"]
    assert server.client.get(f"/v1/files/{file_id}").json()["frames"] == 20


def test_a_refused_file_raises_the_reason_of_the_service(tmp_path: Path, client: ServerClient) -> None:
    (tmp_path / "none").write_bytes(b"nothing that is read")
    with pytest.raises(BadInput, match="in no format that is read"):
        client.upload_file(tmp_path / "none")


def test_a_job_reports_progress_and_its_results_are_downloaded(
    tmp_path: Path, client: ServerClient, server: Server, nuclei: Path
) -> None:
    image_id, progress = server.upload(nuclei), list[tuple[int, int | None]]()
    job = client.run_job(
        automatic_batch([image_id, image_id]), lambda done, total: progress.append((done, total))
    )
    assert progress[-1] == (2, 2)
    with write_atomically(tmp_path / "objects.json") as out:
        client.download_results(job, JobFormat.COCO, out)
    assert [path.name for path in tmp_path.iterdir()] == ["objects.json"]
    assert len(json.loads((tmp_path / "objects.json").read_text())["images"]) == 2
    with pytest.raises(BadInput, match="mp4"), write_atomically(tmp_path / "clip.mp4") as out:
        client.download_results(job, JobFormat.MP4, out)
    assert [path.name for path in tmp_path.iterdir()] == ["objects.json"], "nothing half-written"


def test_an_interrupt_while_waiting_cancels_the_job(
    client: ServerClient, server: Server, nuclei: Path
) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.run_job(automatic_batch([server.upload(nuclei)] * 500), interrupt)
    assert server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled"
