"""The service's side: start the fork server, open a process for a file, call it, and kill it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import structlog

from segserve.errors import Unavailable
from segserve.sandbox.confine import Confinement
from segserve.sandbox.fork_server import STATUS
from segserve.sandbox.messages import CLAIM, GRANTED, MAX_CLAIM_BYTES, Channel, ChannelClosed, Message

# Until the fork server has imported its libraries and a process is confined. On a busy machine this takes seconds.
START_TIMEOUT_S = 60.0
# A killed process is gone in milliseconds.
END_TIMEOUT_S = 10.0
# One thread and one heap: threads cannot be forked, and each heap takes 64 MB of address space. No cache of freed
# memory: what comes from it is not filled with zeros (see `confine`).
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
}
# All that the fork server gets of the service's environment, which holds keys and passwords.
INHERITED = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TZ")

log = structlog.get_logger(__name__)


class ProcessStopped(Exception):
    """The process has been killed by `kill`, because nobody needs its answer any more."""


class ProcessTimeout(Exception):
    """The process has not answered in time, or has used up its CPU time. It is killed."""


class ProcessDied(Exception):
    """The process has ended by itself. signal_number: by which signal; None if by none."""

    def __init__(self, signal_number: int | None) -> None:
        super().__init__(f"signal {signal_number}")
        self.signal_number = signal_number


class Sandbox:
    """`Sandbox` opens processes that run a module of this package under limits.

    module: see `fork_server.py`. Its `serve` gets a `Channel` whose first message is a Confinement.

    All methods may be called from any thread.
    """

    def __init__(self, module: str) -> None:
        self._module, self._lock = module, threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._processes: set[SandboxedProcess] = set()
        # The channel and the status socket of a process that waits for its file.
        self._spare: tuple[socket.socket, socket.socket] | None = None
        self._closed = False
        self._warned = False

    def start(self) -> None:
        """Start the fork server, unless it runs. Does not wait until it is warm. Raises Unavailable once closed."""
        with self._lock:
            self._start()

    def _start(self) -> socket.socket:
        if self._closed:
            raise Unavailable("The service is about to stop.")
        if self._control is not None and self._server is not None and self._server.poll() is None:
            return self._control
        self._stop()
        ours, theirs = socket.socketpair()
        with theirs:
            self._server = start_fork_server(self._module, theirs.fileno())
        self._control, self._spare = ours, fork(ours)
        return ours

    def _stop(self) -> None:
        for end in self._spare or ():
            end.close()
        self._spare = None
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            try:
                self._server.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:  # it was still importing
                self._server.kill()
                self._server.wait()
            self._server = None

    def open(
        self, confinement: Confinement, scratch: "tempfile.TemporaryDirectory[str]"
    ) -> "SandboxedProcess":
        """Return a new process, confined. scratch: its folder, deleted with the process. Raises Unavailable."""
        for attempt in range(2):  # the fork server itself may have been killed, for want of memory
            process = self._take(scratch)
            try:
                reply = process.call(confinement.to_json(), timeout_s=START_TIMEOUT_S)
            except (ProcessDied, ProcessTimeout):
                process.disconnect()
                if attempt:
                    raise Unavailable("The process that reads files could not be started.") from None
                continue
            except ProcessStopped:
                process.disconnect()
                raise Unavailable("The service is about to stop.") from None
            self._warn(reply.get("missing"))
            return process
        raise AssertionError

    def _take(self, scratch: "tempfile.TemporaryDirectory[str]") -> "SandboxedProcess":
        """Return the process that waits, and have the next one forked meanwhile: a fork takes milliseconds."""
        with self._lock:
            control = self._start()
            channel, status = self._spare or fork(control)
            self._spare = fork(control)
            process = SandboxedProcess(Channel(channel), status, scratch, self._processes.discard)
            self._processes.add(process)
        return process

    def _warn(self, missing: object) -> None:
        if missing and isinstance(missing, list) and not self._warned:
            self._warned = True
            log.warning(
                "processes that read files are confined less than they could be",
                missing=[str(name)[:40] for name in missing[:4]],
            )

    def close(self) -> None:
        """Kill all processes, and end the fork server. Calls that wait for an answer raise ProcessStopped."""
        with self._lock:
            self._closed = True
            processes = list(self._processes)
            for process in processes:
                process.kill()
            self._stop()


def start_fork_server(module: str, control: int) -> subprocess.Popen[bytes]:
    """Start a fork server. control: its end of the socket; see `fork_server.py`."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "segserve.sandbox.fork_server", str(control), module],
        env=choose_environment(),
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the service
    )


def choose_environment() -> dict[str, str]:
    """Return the environment of a fork server."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | ENVIRONMENT
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return environment


def fork(control: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Have the fork server fork. Returns the channel and the status socket; both are closed if the server is gone."""
    (channel, child_channel), (status, child_status) = socket.socketpair(), socket.socketpair()
    with child_channel, child_status, suppress(OSError):
        socket.send_fds(control, [b"\0"], [child_channel.fileno(), child_status.fileno()])
    return channel, status


def read_claim(message: Message) -> int | None:
    """Return the bytes that a message claims; None where it is none that claims. Raises ChannelClosed."""
    claimed = message.get(CLAIM)
    if claimed is None:
        return None
    if type(claimed) is not int or not 0 <= claimed <= MAX_CLAIM_BYTES:
        raise ChannelClosed
    return claimed


class SandboxedProcess:
    """`SandboxedProcess` is a process of a `Sandbox`. One thread calls it; any thread may kill it."""

    def __init__(
        self,
        channel: Channel,
        status: socket.socket,
        scratch: "tempfile.TemporaryDirectory[str]",
        on_close: "Callable[[SandboxedProcess], None]",
    ) -> None:
        self._channel, self._status, self._scratch, self._on_close = channel, status, scratch, on_close
        self._killed = self._busy = False

    def call(
        self,
        request: Message,
        files: Sequence[int] = (),
        *,
        timeout_s: float,
        on_claim: Callable[[int], None] | None = None,
    ) -> Message:
        """Send a request and return the reply, which nobody has checked. After an exception the process is dead.

        on_claim: called with the bytes of memory that the process will use; it returns when they are free, and may
        raise to refuse them. None grants them all.

        Raises ProcessStopped, ProcessTimeout, ProcessDied.
        """
        try:
            self._busy = True
            self._channel.send(request, files)
            deadline = time.monotonic() + timeout_s
            reply = self._channel.receive(deadline)
            while (claimed := read_claim(reply)) is not None:
                asked_at = time.monotonic()
                if on_claim is not None:
                    on_claim(claimed)
                deadline += time.monotonic() - asked_at  # the process does not work while it waits
                self._channel.send({GRANTED: claimed})
                reply = self._channel.receive(deadline)
            self._busy = False
            return reply
        except TimeoutError:
            self._end()
            raise ProcessTimeout from None
        except ChannelClosed:
            number = self._end()
            if self._killed:
                raise ProcessStopped from None
            if number == signal.SIGXCPU:
                raise ProcessTimeout from None
            raise ProcessDied(number) from None

    def kill(self) -> None:
        """Kill the process, unless it has ended. A call that waits for an answer raises ProcessStopped."""
        self._killed = True
        with suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)

    def _end(self) -> int | None:
        """Wait until the process has ended, killed if need be. Returns the signal that ended it, or None."""
        with suppress(OSError):
            self._status.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            self._status.settimeout(END_TIMEOUT_S)
            data = self._status.recv(STATUS.size)
            if len(data) == STATUS.size and (code := STATUS.unpack(data)[0]) < 0:
                return -int(code)
        return None

    def disconnect(self) -> None:
        """Close the connections, which ends the process."""
        self._channel.close()
        self._status.close()
        self._on_close(self)

    def close(self) -> None:
        """End the process and delete its folder. A process that still works is waited for: it may use the folder."""
        if self._busy:
            self._end()
        self.disconnect()
        self._scratch.cleanup()
