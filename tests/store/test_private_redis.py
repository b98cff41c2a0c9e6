"""The private server: started once, adopted, shared, stopped by the last."""

import os
import signal
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
    monkeypatch.setattr(private_redis, "find_redis_binary", lambda: "/bin/false")
    server = PrivateRedis(tmp_path, 32)
    with pytest.raises(RedisStartFailed, match=r"redis\.log"):
        server.start()
    server.stop()
