"""The fork server: a process with one thread that has imported the libraries, and forks a process for each file.

    python -m segserve.sandbox.fork_server CONTROL MODULE

MODULE has a function `warm_up`, called once, and `serve`, called in each process with its channel. CONTROL is the
descriptor of a socket on which the service sends, for each process, one byte and two sockets: the channel, and the
status. The server kills the process as soon as the status socket
is closed on the service's side, and writes to it how the process ended: its exit code, or minus the signal, as 4 bytes.
When CONTROL is closed, the server and all its processes end; so they end with the service, whatever ends that.
"""

import gc
import importlib
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from segserve.sandbox.confine import die_with
from segserve.sandbox.messages import Channel

STATUS = struct.Struct("!i")

Serve = Callable[[Channel], None]


class ForkServer:
    """`ForkServer` forks, kills and reaps."""

    def __init__(self, control: socket.socket, serve: Serve) -> None:
        self._control, self._serve = control, serve
        self._selector = selectors.DefaultSelector()
        self._status_by_pid: dict[int, socket.socket] = {}
        self._null = os.open(os.devnull, os.O_RDWR)
        self._child_ended, wake = socket.socketpair()
        for end in (self._child_ended, wake):
            end.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wake-up socket is written to
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until the service is gone."""
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._child_ended, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    if not self._fork():
                        return
                elif key.fileobj is self._child_ended:
                    self._reap()
                elif key.data in self._status_by_pid:
                    os.kill(key.data, signal.SIGKILL)
                    self._selector.unregister(key.fileobj)

    def _fork(self) -> bool:
        """Fork a process. Returns False when the service is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
        if not data or len(descriptors) != 2:
            return False
        channel, status = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        server = os.getpid()
        with channel:
            try:
                pid = os.fork()
            except OSError:  # no memory, or too many processes: the service sees both sockets closed
                status.close()
                return True
            if not pid:
                self._become_child(server, channel, status)
        self._status_by_pid[pid] = status
        self._selector.register(status, selectors.EVENT_READ, pid)
        return True

    def _become_child(self, server: int, channel: socket.socket, status: socket.socket) -> None:
        """Serve one file in the new process, and end it. Never returns."""
        try:
            die_with(server)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for inherited in (
                self._control,
                self._child_ended,
                self._wake,
                status,
                *self._status_by_pid.values(),
            ):
                inherited.close()
            # Libraries write warnings about files: whoever uploads could fill the log.
            for descriptor in (0, 1, 2):
                os.dup2(self._null, descriptor)
            self._serve(Channel(channel))
        finally:
            os._exit(0)

    def _reap(self) -> None:
        """Report the processes that have ended."""
        with suppress(BlockingIOError):
            while self._child_ended.recv(4096):
                pass
        while self._status_by_pid:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            status = self._status_by_pid.pop(pid)
            with suppress(KeyError):
                self._selector.unregister(status)
            with status, suppress(OSError):
                status.send(STATUS.pack(os.waitstatus_to_exitcode(wait_status)))


def main() -> None:
    """Import, and serve until the service is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    ignore_signals()
    run(control, import_warm(sys.argv[2]))


def ignore_signals() -> None:
    """Leave to the service when this process ends."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)


def import_warm(name: str) -> Serve:
    """Import the module and warm it up. Return its `serve`."""
    module = importlib.import_module(name)
    module.warm_up()
    gc.collect()
    gc.freeze()  # so that the collector of a forked process does not copy the memory that both share
    serve: Serve = module.serve
    return serve


def run(control: socket.socket, serve: Serve) -> NoReturn:
    """Serve until the service is gone, and end the process."""
    ForkServer(control, serve).run()
    os._exit(0)  # nothing is to be done any more, and its processes end only now


if __name__ == "__main__":
    main()
