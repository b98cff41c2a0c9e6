"""`segserve serve --processes 2`: two real processes behind one port; one is killed, and all of them stop together."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from segserve.commands.supervisor import Supervisor, write_member_settings
from segserve.errors import BadInput
from segserve.settings import MIN_IMAGE_MEMORY_MB, Settings
from tests.serving import Server, run_embed_job

PICTURE = Path(__file__).parents[2] / "examples" / "nuclei.png"
WAIT_S = 180


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("data"), processes="2", operator_port="0", log_level="error", grpc_port="0"
    )
    yield server
    assert server.stop() == 0


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def find_members(server: Server) -> dict[str, psutil.Process]:
    """The processes that serve, by their number."""
    members = {}
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.Error, ValueError):  # it has just ended, or is not yet what it will be
            command = child.cmdline()
            members[command[command.index("--member") + 1]] = child
    return members


def operator_urls(server: Server) -> list[str]:
    return re.findall(r"operators, process \d, at (http://\S+)", server.log.read_text())


def click_on_new_connection(server: Server, image_id: str) -> httpx.Response:
    body = {"image_id": image_id, "prompts": [{"points": [[413, 190]]}]}
    return httpx.post(f"{server.url}/v1/segment", json=body, timeout=WAIT_S)


def test_both_answer_on_one_port_what_either_was_sent(server: Server) -> None:
    image_id = server.upload(PICTURE)
    answers = [click_on_new_connection(server, image_id) for _ in range(40)]
    masks = [answer.json()["results"][0]["masks"][0]["mask"] for answer in answers]
    assert all(mask == masks[0] for mask in masks)
    metrics = [httpx.get(f"{url}/metrics").text for url in operator_urls(server)]
    assert len(metrics) == 2
    assert all('segserve_click_seconds_count{embedding="process"}' in text for text in metrics)
    # One of them encoded the picture, and the other one found the embedding in the Redis that they share.
    assert sum('segserve_encoded_images_total{model="starter"} 1.0' in text for text in metrics) == 1


def test_metrics_of_the_shared_port_are_refused_with_the_remedy(server: Server) -> None:
    refusal = server.client.get("/metrics")
    assert refusal.status_code == 403
    assert "--operator-port" in refusal.json()["remedy"]
    assert server.client.get("/readyz").status_code == 200


def test_a_job_is_run_once_by_one_worker(server: Server) -> None:
    job = run_embed_job(server.client, [server.upload(PICTURE)])
    assert (job["state"], job["attempts"]) == ("succeeded", 1)
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert sum("worker" in child.cmdline() for child in children) == 1


def test_a_process_that_dies_is_started_again(server: Server) -> None:
    image_id, killed = server.upload(PICTURE), find_members(server)["1"]
    killed.kill()
    wait_until(lambda: find_members(server).get("1", killed).pid != killed.pid)
    wait_until(lambda: click_on_new_connection(server, image_id).status_code == 200)

    def both_listen() -> bool:
        port = httpx.URL(server.url).port
        return all(
            any(
                link.status == psutil.CONN_LISTEN and link.laddr.port == port
                for link in member.net_connections(kind="tcp")
            )
            for member in find_members(server).values()
        )

    wait_until(both_listen)
    assert click_on_new_connection(server, image_id).status_code == 200


def test_all_end_together(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", processes="2", log_level="error")
    everyone = psutil.Process(server.process.pid).children(recursive=True)
    assert server.stop() == 0
    _, alive = psutil.wait_procs(everyone, timeout=WAIT_S)
    assert not alive


def test_a_port_in_use_is_named_before_anything_starts(server: Server) -> None:
    port = httpx.URL(server.url).port
    with pytest.raises(BadInput, match=f"Port {port} of 127.0.0.1 is in use"):
        Supervisor(Settings(processes=2, port=port), lambda addresses: None)


def test_a_process_that_cannot_start_ends_all_of_them(tmp_path: Path) -> None:
    """The first one says why; nothing is tried again."""
    with pytest.raises(AssertionError, match="OpenVINO runs on the CPU, and SEGSERVE_DEVICE is cuda"):
        Server(tmp_path / "data", processes="2", runtime="openvino", device="cuda")


def test_all_processes_together_take_what_one_would() -> None:
    settings = Settings(processes=64, image_memory_mb=100_000, operator_port=9000)
    members = [write_member_settings(settings, {"port": 8123}, index) for index in range(2)]
    assert [each.operator_port for each in members] == [9000, 9001]
    assert [each.job_workers for each in members] == [True, False]
    assert [each.port for each in members] == [8123, 8123]
    assert (members[0].decode_threads, members[0].decode_workers, members[0].encode_threads) == (1, 1, 1)
    # What the operator sets is for each process.
    assert members[0].image_memory_mb == 100_000
    assert write_member_settings(Settings(processes=64), {}, 0).image_memory_mb == MIN_IMAGE_MEMORY_MB


def test_frontends_that_keep_sessions_are_left_out_or_refused() -> None:
    left_out = write_member_settings(Settings(processes=2), {}, 0).frontends
    assert "open-inference" in left_out
    assert "nninteractive" not in left_out
    with pytest.raises(BadInput, match="nninteractive cannot be spoken by several processes"):
        write_member_settings(Settings(processes=2, frontends=("nninteractive",)), {}, 0)
