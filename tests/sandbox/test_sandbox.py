"""A sandboxed process cannot take more than it is given, reach anything else, or outlive the service."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segserve.errors import Unavailable
from segserve.sandbox.confine import Confinement
from segserve.sandbox.landlock import landlock_version
from segserve.sandbox.sandbox import ProcessDied, ProcessStopped, ProcessTimeout, Sandbox, SandboxedProcess
from segserve.sandbox.shared_pixels import SharedPixels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")

MODULE = "tests.sandbox.hostile_process"
MB = 1 << 20
# A hang is minutes; a machine under load is not.
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(MODULE)
    yield made
    made.close()


class Attack:
    """A process that does as it is told."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.upload = folder / "upload"
        self.upload.write_bytes(b"upload")
        self.scratch = tempfile.TemporaryDirectory(dir=folder)
        confinement = Confinement(
            readable=str(self.upload),
            scratch=self.scratch.name,
            start_memory_bytes=256 * MB,
            max_memory_bytes=512 * MB,
            max_file_bytes=2 * MB,
            max_open_files=64,
        )
        self.process: SandboxedProcess = sandbox.open(confinement, self.scratch)

    def __call__(
        self, do: str, *arguments: Any, files: tuple[int, ...] = (), timeout_s: float = TIMEOUT_S
    ) -> Any:
        reply = self.process.call({"do": do, "with": arguments}, files, timeout_s=timeout_s)
        return reply["result"] if "result" in reply else reply["error"]


@pytest.fixture
def attack(sandbox: Sandbox, tmp_path: Path) -> Iterator[Attack]:
    made = Attack(sandbox, tmp_path)
    yield made
    made.process.close()
    assert not Path(made.scratch.name).exists()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_memory_ends_where_the_limit_says(attack: Attack) -> None:
    assert attack("allocate", 100 * MB) == 100 * MB
    assert attack("allocate", 300 * MB) in ("MemoryError", "OSError")
    assert attack("ask_and_allocate", 200 * MB) == 200 * MB
    assert attack("ask_and_allocate", 600 * MB) in ("MemoryError", "OSError"), (
        "asking does not go over the maximum"
    )


def test_limits_cannot_be_raised(attack: Attack) -> None:
    with pytest.raises(ProcessDied):  # setrlimit raises ValueError, which ends the process
        attack("raise_limit")


def test_computing_ends_where_the_limit_says(attack: Attack) -> None:
    with pytest.raises(ProcessTimeout):
        attack("compute", 1)


def test_waiting_ends_with_the_time(attack: Attack) -> None:
    pid = attack("pid")
    began = time.monotonic()
    with pytest.raises(ProcessTimeout):
        attack("sleep", timeout_s=0.5)
    assert time.monotonic() - began < TIMEOUT_S
    assert not is_running(pid), "it was killed, and waited for"


@pytest.mark.parametrize("number", [signal.SIGFPE, signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_told_with_its_signal(attack: Attack, number: int) -> None:
    with pytest.raises(ProcessDied) as death:
        attack("crash", number)
    assert death.value.signal_number == number


def test_an_abort_is_told(attack: Attack) -> None:
    with pytest.raises(ProcessDied) as death:
        attack("abort")
    assert death.value.signal_number == signal.SIGABRT


def test_a_process_that_is_killed_meanwhile_says_so(attack: Attack) -> None:
    pid = attack("pid")
    killer = threading.Timer(0.2, attack.process.kill)
    killer.start()
    with pytest.raises(ProcessStopped):
        attack("sleep")
    killer.join()
    assert not is_running(pid)


@pytest.mark.parametrize("do", ["fork", "execute", "replace"])
def test_no_other_process_is_started(attack: Attack, do: str) -> None:
    assert attack(do) == "PermissionError"


def test_threads_are(attack: Attack) -> None:
    assert attack("start_thread") is True


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK])
def test_no_socket_is_opened(attack: Attack, family: int) -> None:
    assert attack("open_socket", int(family)) == "PermissionError"


def test_nobody_else_is_signalled(attack: Attack) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        for pid in (other.pid, os.getpid(), -1):
            assert attack("kill", pid) == "PermissionError"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock")
def test_only_the_upload_is_read_and_only_scratch_is_written(attack: Attack, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    assert attack("read", str(attack.upload)) == 6
    for path in (secret, "/etc/passwd", "/proc/self/environ", f"/proc/{os.getpid()}/environ"):
        assert attack("read", str(path)) == "PermissionError"
    for path in (tmp_path, "/", Path.home(), "/proc"):
        assert attack("list", str(path)) == "PermissionError"
    for path in (secret, attack.upload, tmp_path / "new", "/tmp/segserve-new", "/dev/shm/segserve-new"):
        assert attack("write", str(path)) == "PermissionError"
    inside = f"{attack.scratch.name}/new"
    assert attack("write", inside) is None
    assert attack("link", str(secret), f"{attack.scratch.name}/link") == "PermissionError"
    assert secret.read_bytes() == b"secret"


def test_files_end_where_the_limit_says(attack: Attack) -> None:
    path = Path(attack.scratch.name) / "large"
    assert attack("write", str(path), 2 * MB) is None
    assert attack("write", str(path), 3 * MB) == "OSError"
    assert path.stat().st_size <= 2 * MB
    assert attack("open_files", 100) == "OSError"


def test_output_goes_nowhere(attack: Attack, capfd: pytest.CaptureFixture[str]) -> None:
    attack("print", "a line for the log\n")
    assert capfd.readouterr() == ("", "")


def test_nothing_of_one_file_is_there_for_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    first = Attack(sandbox, tmp_path)
    assert first("remember", "a secret of the first") == ["a secret of the first"]
    second = Attack(sandbox, tmp_path)
    assert second("remember", "x") == ["x"]
    # Its channel, and perhaps the null device and a descriptor of the interpreter's own.
    assert second("count_descriptors") <= 4, "no descriptor of another process, nor of the server"
    for attack in (first, second):
        attack.process.close()


def test_new_memory_holds_nothing_old(attack: Attack) -> None:
    for size in (100, 5_000, 100_000, MB):
        assert attack("fresh_memory", size) == 0


def test_secrets_of_the_service_are_not_in_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGSERVE_WEBHOOK_SECRET", "whsec_x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    sandbox = Sandbox(MODULE)
    attack = Attack(sandbox, tmp_path)
    environment = attack("environment")
    assert not [name for name in environment if name.startswith(("SEGSERVE", "AWS"))]
    attack.process.close()
    sandbox.close()


def test_shared_pixels_keep_their_size_and_begin_as_zeros(attack: Attack) -> None:
    pixels = SharedPixels((30, 20, 3), np.uint8)
    assert attack("shrink", files=(pixels.descriptor,)) == "PermissionError"
    assert not pixels.copy().any()
    assert pixels.view().shape == (30, 20, 3)
    pixels.close()


def test_a_dead_fork_server_is_replaced(sandbox: Sandbox, tmp_path: Path) -> None:
    attack = Attack(sandbox, tmp_path)
    server = int(Path(f"/proc/{attack('pid')}/status").read_text().partition("PPid:")[2].split()[0])
    os.kill(server, signal.SIGKILL)
    with pytest.raises(ProcessDied):
        attack("sleep")
    attack.process.close()
    again = Attack(sandbox, tmp_path)
    assert again("pid") > 0
    again.process.close()


def test_closing_ends_everything(tmp_path: Path) -> None:
    sandbox = Sandbox(MODULE)
    attack = Attack(sandbox, tmp_path)
    pid = attack("pid")
    closer = threading.Timer(0.2, sandbox.close)
    closer.start()
    with pytest.raises(ProcessStopped):
        attack("sleep")
    closer.join()
    wait_until_gone(pid)
    attack.process.close()
    with tempfile.TemporaryDirectory() as name, pytest.raises(Unavailable):
        sandbox.open(Confinement(str(tmp_path), name, MB, MB, MB), attack.scratch)


def test_many_threads_may_open_processes(sandbox: Sandbox, tmp_path: Path) -> None:
    pids = set[int]()

    def run(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        for _ in range(3):
            attack = Attack(sandbox, folder)
            pids.add(attack("pid"))
            attack.process.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 12


def test_processes_end_with_the_service_whatever_ends_that(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from tests.sandbox.test_sandbox import Attack, Sandbox, MODULE
sandbox = Sandbox(MODULE)
attack = Attack(sandbox, Path({str(tmp_path)!r}))
print(attack("pid"), flush=True)
attack("sleep")
"""
    service = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    pid = int(service.stdout.readline())
    server = int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])
    service.kill()
    service.wait()
    service.stdout.close()
    wait_until_gone(pid)
    wait_until_gone(server)
