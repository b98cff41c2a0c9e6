"""The private server: started once, adopted, shared, stopped by the last."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segserve.store import private_redis
from segserve.store.private_redis import PrivateRedis, RedisStartFailed, is_redis_answering


def test_starts_answers_and_stops(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path, 32)
    assert server.start()
    assert is_redis_answering(server.socket)
    assert (server.socket.stat().st_mode & 0o777) == 0o700, "nobody else may connect"
    server.stop()
    assert not is_redis_answering(server.socket)


def test_the_second_adopts_and_the_last_stops(tmp_path: Path) -> None:
    first, second = PrivateRedis(tmp_path, 32), PrivateRedis(tmp_path, 32)
    assert first.start()
    assert not second.start()
    assert first.pid() == second.pid()
    first.stop()
    assert is_redis_answering(second.socket)
    second.stop()
    assert not is_redis_answering(second.socket)


def test_a_dead_server_is_started_again(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path, 32)
    server.start()
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while is_redis_answering(server.socket):
        pass
    assert server.start()
    assert server.pid() != pid
    server.stop()


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    server = PrivateRedis(folder, 32)
    assert folder not in server.socket.parents
    assert server.start()
    server.stop()


def test_a_server_that_does_not_start_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_redis, "find_redis_binaries", lambda: ["/bin/false"])
    server = PrivateRedis(tmp_path, 32)
    with pytest.raises(RedisStartFailed, match=r"redis\.log"):
        server.start()
    server.stop()


def wait_until_gone(server: PrivateRedis, pid: int) -> None:
    deadline = time.monotonic() + 60
    while is_alive(pid) or is_redis_answering(server.socket):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


USER = """
import sys, time
from pathlib import Path
from segserve.store import private_redis
private_redis.ORPHAN_GRACE_S = float(sys.argv[2])
server = private_redis.PrivateRedis(Path(sys.argv[1]), 32)
server.start()
print(server.pid(), flush=True)
time.sleep(600)
"""


def start_user(folder: Path, grace_s: float) -> tuple["subprocess.Popen[str]", int]:
    """Start a process that uses the server. Returns it, and the server's pid."""
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(folder), str(grace_s)], stdout=subprocess.PIPE, text=True
    )
    assert user.stdout is not None
    return user, int(user.stdout.readline())


def kill(user: "subprocess.Popen[str]") -> None:
    user.kill()
    user.communicate()


def test_a_server_ends_after_its_users_were_killed(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path, 32)
    first, pid = start_user(tmp_path, 0.5)
    second, same = start_user(tmp_path, 0.5)
    assert pid == same
    kill(first)
    time.sleep(1.5)
    assert is_redis_answering(server.socket), "one still uses it"
    kill(second)
    wait_until_gone(server, pid)
    assert server.start(), "and the next process starts another"
    server.stop()


def test_the_next_process_adopts_what_a_killed_one_left(tmp_path: Path) -> None:
    user, pid = start_user(tmp_path, 600)
    kill(user)
    server = PrivateRedis(tmp_path, 32)
    assert not server.start()
    assert server.pid() == pid
    server.stop()
    wait_until_gone(server, pid)


def test_a_server_ends_with_its_keeper(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path, 32)
    server.start()
    pid = server.pid()
    assert pid is not None
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert "redis_keeper" in Path(f"/proc/{keeper}/cmdline").read_text()
    os.kill(keeper, signal.SIGKILL)
    wait_until_gone(server, pid)
    server.stop()
