"""What the long commands do with a service: upload, a job that Ctrl-C cancels, results, and errors as commands say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segserve.commands.output_file import write_atomically
from segserve.commands.server_client import (
    connect_to_server,
    download_results,
    find_model,
    run_job,
    upload_file,
)
from segserve.errors import BadInput, Unavailable
from segserve.wire.results.job_formats import JobFormat
from segserve_client import Client
from tests.files import sample_files
from tests.serving import Server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def automatic_batch(image_ids: list[str]) -> dict[str, Any]:
    return {
        "kind": "batch",
        "input": {"image_ids": image_ids},
        "params": {"operation": "automatic", "options": {"method": "ais"}},
    }


def test_a_file_is_uploaded_as_it_is(tmp_path: Path, client: Client, server: Server) -> None:
    stored = upload_file(client, sample_files.write_video(tmp_path / "clip.mp4", 20))
    assert server.client.get(f"/v1/files/{stored.file_id}").json()["frames"] == 20


def test_errors_are_those_of_commands(tmp_path: Path, server: Server) -> None:
    (tmp_path / "none").write_bytes(b"nothing that is read")
    with (
        pytest.raises(BadInput, match="in no format that is read") as refused,
        connect_to_server(server.url, None) as client,
    ):
        upload_file(client, tmp_path / "none")
    assert refused.value.field == "file"
    with (
        pytest.raises(Unavailable, match="cannot be reached") as away,
        connect_to_server("http://127.0.0.1:9", None) as client,
    ):
        client.version()
    assert away.value.remedy == "Is that the address of a running segserve?"


def test_a_job_reports_progress_and_its_results_are_downloaded(
    tmp_path: Path, client: Client, server: Server, nuclei: Path
) -> None:
    image_id, progress = server.upload(nuclei), list[tuple[int, int | None]]()
    job = run_job(
        client, automatic_batch([image_id, image_id]), lambda done, total: progress.append((done, total))
    )
    assert progress[-1] == (2, 2)
    with write_atomically(tmp_path / "objects.json") as out:
        download_results(job, JobFormat.COCO, out)
    assert [path.name for path in tmp_path.iterdir()] == ["objects.json"]
    assert len(json.loads((tmp_path / "objects.json").read_text())["images"]) == 2
    with (
        pytest.raises(BadInput, match="mp4"),
        connect_to_server(server.url, None) as again,
        write_atomically(tmp_path / "clip.mp4") as out,
    ):
        download_results(again.job(job.job_id), JobFormat.MP4, out)
    assert [path.name for path in tmp_path.iterdir()] == ["objects.json"], "nothing half-written"


def test_an_interrupt_while_waiting_cancels_the_job(client: Client, server: Server, nuclei: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(client, automatic_batch([server.upload(nuclei)] * 500), interrupt)
    assert server.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled"


def test_models_are_found_by_name(client: Client) -> None:
    assert find_model(client, None).name == find_model(client, "starter").name == "starter"
    with pytest.raises(BadInput, match="There is no model 'nobody'"):
        find_model(client, "nobody")
