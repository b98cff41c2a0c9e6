"""The embedded worker: a child process that runs the jobs of a service that has no other worker. It starts when there
is work for the first time."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

import structlog

# Pause before a worker that died is started again. It doubles with every death in a row.
MIN_RESTART_DELAY_S = 1.0
MAX_RESTART_DELAY_S = 30.0

# A worker that lived this long was healthy: if it dies, the pause is the shortest again.
STABLE_AFTER_S = 60.0

# How long a worker may take to give its job back, before it is killed.
STOP_TIMEOUT_S = 30.0

log = structlog.get_logger(__name__)


class EmbeddedWorker:
    """`EmbeddedWorker` starts the worker process, and starts it again when it dies.

    command: must end when its standard input does, so that the worker does not outlive a service that was killed.
    environment: added to this process's.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = list(command), {**os.environ, **environment}
        self._process: Process | None = None
        self._has_work = asyncio.Event()

    def wake(self) -> None:
        """Start the worker, if it is not started yet: there is work."""
        self._has_work.set()

    async def keep_running(self) -> None:
        """Keep the worker running, from the first `wake` until cancelled."""
        await self._has_work.wait()
        loop, delay = asyncio.get_running_loop(), MIN_RESTART_DELAY_S
        while True:
            started = loop.time()
            status: int | str
            try:
                self._process = await start_worker(self._command, self._environment)
                status = await self._process.wait()
            except OSError as error:
                status = str(error)
            lifetime = loop.time() - started
            delay = MIN_RESTART_DELAY_S if lifetime > STABLE_AFTER_S else min(2 * delay, MAX_RESTART_DELAY_S)
            log.error("the job worker died and is started again", status=status, after_s=delay)
            await asyncio.sleep(delay)

    async def stop(self) -> None:
        """Stop the worker, after it has given back the job that it runs."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def start_worker(command: Sequence[str], environment: Mapping[str, str]) -> Process:
    """Start a worker process. environment: all of it."""
    return await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C goes to the service alone, which then stops the worker
    )


def segserve_command(*arguments: str) -> list[str]:
    """Return the command line of this program with other arguments."""
    return [sys.executable, "-m", "segserve.cli", *arguments]
