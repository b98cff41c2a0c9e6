"""The mutators leave a real service well, and what they would report is reported."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import cast

import pytest

from tests.fuzz.broken import Broken
from tests.fuzz.harnesses.all_harnesses import HARNESSES
from tests.fuzz.mutators.grpc_calls import GrpcMutator, decode_input, encode_input
from tests.fuzz.mutators.http_requests import HttpMutator, is_complete, split_statuses
from tests.fuzz.mutators.mutator import Mutator, check_secrets, check_status
from tests.fuzz.mutators.native_files import NativeFiles
from tests.fuzz.mutators.native_pictures import NativePictures
from tests.fuzz.mutators.uploads import FileUploads, ImageUploads
from tests.fuzz.processes import read_stat
from tests.fuzz.replay import replay, replay_mutated
from tests.fuzz.service import FuzzedService, start_service
from tests.fuzz.service_lane import SHARES
from tests.fuzz.watch import MAX_LIVEZ_S, Watch

REGRESSIONS = Path(__file__).parent / "regressions"
INPUTS = {HttpMutator: 60, GrpcMutator: 40, ImageUploads: 60, FileUploads: 30}
MUTATORS = (*INPUTS, NativeFiles, NativePictures)
# Starts another process when it gets a line; the other ends with it.
PARENT = """
import subprocess, sys, time
input()
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(99)
"""
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FuzzedService]:
    running = start_service(tmp_path_factory.mktemp("fuzzed"))
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def watch(service: FuzzedService) -> Iterator[Watch]:
    watching = Watch(service.url, service.process.pid, service.log)
    yield watching
    watching.close()


@pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.name)
def test_the_service_stays_well(kind: type[Mutator], service: FuzzedService, watch: Watch) -> None:
    """Other inputs are tried by `make fuzz`: here they are the same each time."""
    mutator = kind()
    rng = random.Random(1)
    for _ in range(INPUTS[kind]):
        data = mutator.make(rng)
        try:
            mutator.run(data, service)
        except Broken as broken:
            pytest.fail(f"{broken}\n{data!r}\n{broken.detail}")
    service.fill()
    assert watch.find_left_children() == []
    watch.check_log()
    watch.check_alive()


@pytest.mark.parametrize("kind", MUTATORS, ids=lambda kind: kind.name)
def test_inputs_that_once_failed(kind: type[Mutator], service: FuzzedService) -> None:
    for path in sorted((REGRESSIONS / kind.name).glob("*")):
        replay_mutated(path, service)


@pytest.mark.parametrize("kind", [NativeFiles, NativePictures], ids=lambda kind: kind.name)
def test_undamaged_files_are_read_to_the_end(kind: type[NativeFiles | NativePictures]) -> None:
    with closing(kind()) as native:
        assert native.count_accepted() > 15


def test_the_same_seed_makes_the_same_inputs() -> None:
    for kind in (HttpMutator, GrpcMutator, ImageUploads):
        first, second = ([kind().make(random.Random(seed)) for seed in range(9)] for _ in range(2))
        assert first == second
        assert len(set(first)) > 5


def test_a_file_of_a_finding_is_run_by_its_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rle").mkdir()
    (tmp_path / "rle" / "input").write_bytes(b"\1\1" + b"04")
    assert replay([tmp_path / "rle" / "input"])
    assert "passes" in capsys.readouterr().out


def test_a_grpc_input_says_what_is_called() -> None:
    data = encode_input("/a.B/C", "stream_unary", [b"", b"x\ny"])
    assert decode_input(data) == ("/a.B/C", "stream_unary", [b"", b"x\ny"])


def test_statuses_of_pipelined_answers() -> None:
    chunked = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    without_body = b"HTTP/1.1 204 No Content\r\n\r\n"  # or of HEAD
    failed = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"
    answer = chunked + without_body + failed
    assert [status for status, _ in split_statuses(answer)] == [201, 204, 500]
    assert is_complete(answer)
    assert is_complete(chunked)
    assert not any(is_complete(answer[:-cut]) for cut in (1, len(failed) - 10))
    assert not is_complete(chunked[:-3])


@pytest.mark.parametrize("status", [500, 501, 502, 504])
def test_a_status_that_is_not_promised_is_a_finding(status: int) -> None:
    service = cast(FuzzedService, SimpleNamespace(data_dir=Path("/nowhere")))
    with pytest.raises(Broken):
        check_status(status, b"", service)
    assert check_status(503, b"", service) == "503"
    assert check_status(501, b'"urn:segserve:problem:missing_dependency"', service) == "501"


def test_a_path_of_the_server_is_a_finding() -> None:
    service = cast(FuzzedService, SimpleNamespace(data_dir=Path("/home/someone/data")))
    with pytest.raises(Broken):
        check_secrets(b"cannot open /home/someone/data/objects/x", service)


def test_the_watch_sees_a_late_answer(service: FuzzedService, watch: Watch) -> None:
    start = time.monotonic()
    service.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    service.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 30
    while (
        (slowest := watch.slowest_since(start)) is None
        or slowest.own_s < MAX_LIVEZ_S
        or len(watch.probes) < 5
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "over 100 ms" in watch.describe_livez()


def test_the_watch_sees_an_internal_error(service: FuzzedService, watch: Watch) -> None:
    watch.check_log()
    with service.log.open("a") as log:
        log.write(
            'internal error\nTraceback (most recent call last):\n  File "/x/segserve/wire/a.py", line 3\nKeyError: 1\n'
        )
    with pytest.raises(Broken, match=r"KeyError: 1 in wire/a\.py:3"):
        watch.check_log()
    watch.check_log()


@contextmanager
def start_parent(log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start PARENT in place of a service."""
    log.touch()
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=PIPE, stdout=PIPE) as parent:
        yield parent
        parent.kill()


def start_child(parent: "subprocess.Popen[bytes]") -> int:
    """Let the parent start a child, and return the child's number."""
    assert parent.stdin is not None
    assert parent.stdout is not None
    parent.stdin.write(b"\n")
    parent.stdin.flush()
    return int(parent.stdout.readline())


def test_the_watch_sees_processes_that_are_left(tmp_path: Path) -> None:
    with (
        start_parent(tmp_path / "log") as parent,
        closing(Watch(NOWHERE, parent.pid, tmp_path / "log")) as watch,
    ):
        assert watch.find_left_children() == []
        start_child(parent)
        assert watch.find_left_children(grace_s=0) != []
        watch.check_alive()
    with pytest.raises(Broken, match="service has ended"):
        watch.check_alive()


def test_the_watch_sees_that_a_worker_ends(tmp_path: Path) -> None:
    with start_parent(tmp_path / "log") as parent:
        child = start_child(parent)
        with closing(Watch(NOWHERE, parent.pid, tmp_path / "log")) as watch:
            watch.check_alive()
            os.kill(child, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while read_stat(child) is not None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(Broken, match="has ended"):
                watch.check_alive()
            watch.check_alive()


def test_memory_that_grows(service: FuzzedService, watch: Watch) -> None:
    watch.memory["leak"] = [(float(second), (100 + second) << 20) for second in range(100)]
    assert watch.memory_growth(10.0)["leak"] == (110, 199, 195)


def test_the_docs_name_every_target() -> None:
    text = (Path(__file__).parent.parent.parent / "docs" / "fuzzing.md").read_text()
    assert [name for name in (*SHARES, *HARNESSES) if f"`{name}`" not in text] == []
