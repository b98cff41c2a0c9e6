"""`segserve serve --processes N`: N processes that answer on the same ports, each started again when it dies.

The supervisor itself answers nothing. It holds the ports, so that a process finds them again, and hands signals on. The
kernel spreads new connections over the processes (SO_REUSEPORT). They share the private Redis servers; jobs are run by
the worker of the first one alone.

    supervisor --(settings as variables; a socket as standard input)--> segserve serve --member I
               <-(its addresses, once it listens)----------------------
"""

import asyncio
import json
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from math import ceil
from typing import Any

import structlog

from segserve.errors import BadInput
from segserve.jobs.engine.embedded_worker import segserve_command
from segserve.settings import MIN_IMAGE_MEMORY_MB, Settings, count_cores
from segserve.wire.frontends.mounting import FRONTENDS
from segserve.wire.server import Addresses, bind_shared_port, check_port_is_free

# The settings of ports on which all processes answer.
SHARED_PORTS = ("port", "grpc_port", "cvat_port", "isat_port")
# Pause before a process that died is started again. It doubles with every death in a row.
MIN_RESTART_DELAY_S = 0.5
MAX_RESTART_DELAY_S = 30.0
# A process that lived this long was healthy: if it dies, the pause is the shortest again.
STABLE_AFTER_S = 60.0
# How long processes may take to end, after they have drained: 20 s for requests, 30 s for the worker to give its job
# back.
STOP_TIMEOUT_S = 60.0

log = structlog.get_logger(__name__)


class StartFailed(Exception):
    """A process ended before it listened for the first time. It has said why on standard error."""


class Supervisor:
    """`Supervisor` runs `settings.processes` processes until SIGTERM or SIGINT.

    on_started: called once with the addresses of all processes, in their order, when they listen.

    Raises BadInput for ports that are in use, and for frontends that cannot be spoken by several processes.
    """

    def __init__(self, settings: Settings, on_started: Callable[[Sequence[Addresses]], None]) -> None:
        self._settings, self._on_started = settings, on_started
        self._held: list[socket.socket] = []
        shared = self._hold_shared_ports()
        self._environments = [
            {**os.environ, **write_member_settings(settings, shared, index).as_environment()}
            for index in range(settings.processes)
        ]
        self._running: dict[int, Process] = {}
        self._addresses: dict[int, Addresses] = {}

    def _hold_shared_ports(self) -> dict[str, int]:
        """Bind the ports that all processes share, without listening. Return them by setting; 0 becomes a free one."""
        ports = {}
        for name in SHARED_PORTS:
            if (port := getattr(self._settings, name)) is not None:
                check_port_is_free(self._settings.host, port)
                held = bind_shared_port(self._settings.host, port)
                ports[name] = held[0].getsockname()[1]
                self._held += held
        return ports

    def run(self) -> bool:
        """Run until a signal comes. Return False where a process could not start."""
        try:
            asyncio.run(self._run())
        except StartFailed:
            return False
        finally:
            for held in self._held:
                held.close()
        return True

    async def _run(self) -> None:
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        tasks = [asyncio.create_task(self._keep_running(0))]
        try:
            # The first one creates the data folder and starts the private Redis.
            await self._wait_until_listening(tasks)
            tasks += [
                asyncio.create_task(self._keep_running(index)) for index in range(1, self._settings.processes)
            ]
            await self._wait_until_listening(tasks)
            if not self._stopping.is_set():
                self._on_started([self._addresses[index] for index in range(len(tasks))])
            await self._stopping.wait()
        finally:
            self._stop(signal.SIGTERM)
            _, late = await asyncio.wait(tasks, timeout=self._settings.drain_s + STOP_TIMEOUT_S)
            if late:
                self._signal_all(signal.SIGKILL)
                await asyncio.wait(late)

    async def _wait_until_listening(self, tasks: Sequence["asyncio.Task[None]"]) -> None:
        """Wait until all these processes listen, or the supervisor is to stop. Raises StartFailed."""
        while len(self._addresses) < len(tasks) and not self._stopping.is_set():
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)

    def _stop(self, number: int) -> None:
        """Hand a signal on to all processes. The second one makes them end without waiting for requests."""
        self._stopping.set()
        self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):  # it has just ended
                process.send_signal(number)

    async def _keep_running(self, index: int) -> None:
        """Start a process, and again whenever it ends, until the supervisor stops. Raises StartFailed."""
        loop, delay = asyncio.get_running_loop(), MIN_RESTART_DELAY_S
        while not self._stopping.is_set():
            started = loop.time()
            status = await self._run_once(index)
            if self._stopping.is_set():
                return
            if index not in self._addresses:
                raise StartFailed
            lifetime = loop.time() - started
            delay = MIN_RESTART_DELAY_S if lifetime > STABLE_AFTER_S else min(2 * delay, MAX_RESTART_DELAY_S)
            log.error("a process died and is started again", process=index, status=status, after_s=delay)
            try:
                await asyncio.wait_for(self._stopping.wait(), delay)
            except TimeoutError:
                continue

    async def _run_once(self, index: int) -> int:
        """Run a process to its end; return its exit status."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *segserve_command("serve", "--member", str(index)),
                    env=self._environments[index],
                    stdin=theirs.fileno(),
                    start_new_session=True,  # a Ctrl-C goes to the supervisor alone, which hands it on
                )
            self._running[index] = process
            if self._stopping.is_set():  # the signal came while the process was being started
                process.terminate()
            if line := await reader.readline():
                self._addresses[index] = Addresses(**json.loads(line))
            return await process.wait()
        finally:
            self._running.pop(index, None)
            writer.close()


def tell_supervisor(addresses: Addresses) -> None:
    """Tell the supervisor of this process that it listens, through standard input."""
    os.write(0, json.dumps(asdict(addresses)).encode() + b"\n")


def write_member_settings(settings: Settings, shared_ports: Mapping[str, int], index: int) -> Settings:
    """Return the settings of one of several processes: all of them together take what one would.

    shared_ports: by setting. index: from 0.

    Raises BadInput for frontends that are asked for and keep sessions.
    """
    cores = max(1, count_cores() // settings.processes)
    shares = {
        "decode_threads": min(4, cores),
        "decode_workers": cores,
        "encode_threads": cores,
        "image_memory_mb": max(MIN_IMAGE_MEMORY_MB, ceil(settings.image_memory_mb / settings.processes)),
    }
    changes: dict[str, Any] = {
        name: value for name, value in shares.items() if name not in settings.model_fields_set
    }
    changes |= shared_ports
    changes["frontends"] = list_frontends(settings)
    changes["job_workers"] = settings.job_workers and index == 0
    if settings.operator_port:
        changes["operator_port"] = settings.operator_port + index
    # Through the constructor, so that the environment of the process names them.
    return Settings(**{**settings.model_dump(exclude_unset=True), **changes})


def list_frontends(settings: Settings) -> tuple[str, ...]:
    """Return the frontends that several processes can speak. Sessions live in one process, and requests meet any.

    Raises BadInput for others that the setting names.
    """
    with_sessions = [
        each.name for each in FRONTENDS if each.keeps_sessions and each.name in settings.frontends
    ]
    if with_sessions and "frontends" in settings.model_fields_set:
        raise BadInput(
            f"{', '.join(with_sessions)} cannot be spoken by several processes: sessions live in one of them.",
            field="frontends",
            remedy="Leave them out of SEGSERVE_FRONTENDS, or serve with one process.",
        )
    return tuple(name for name in settings.frontends if name not in with_sessions)
