"""The worker of a service that has no other: a process of its own, started when there is first something to do."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

import structlog

BACKOFF_S = (1.0, 30.0)  # after the first death in a row, and at most
STABLE_AFTER_S = 60.0  # a worker that lived so long is no longer one that dies at once
STOP_TIMEOUT_S = 30.0

log = structlog.get_logger(__name__)


class EmbeddedWorker:
    """command: it ends when its standard input does, so that it does not outlive a service that was killed.
    environment: added to this process's."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command, self._environment = list(command), {**os.environ, **environment}
        self._process: Process | None = None
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """There is work."""
        self._wanted.set()

    async def keep_running(self) -> None:
        """Keep it running, once it is wanted, until cancelled."""
        await self._wanted.wait()
        loop, pause = asyncio.get_running_loop(), BACKOFF_S[0]
        while True:
            begun = loop.time()
            status: int | str
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=self._environment,
                    stdin=asyncio.subprocess.PIPE,
                    start_new_session=True,  # a Ctrl-C is for the service, which then stops it
                )
                status = await self._process.wait()
            except OSError as error:
                status = str(error)
            lived = loop.time() - begun
            pause = BACKOFF_S[0] if lived > STABLE_AFTER_S else min(2 * pause, BACKOFF_S[1])
            log.error("the job worker died and is started again", status=status, after_s=pause)
            await asyncio.sleep(pause)

    async def stop(self) -> None:
        """Once it has given back what it was doing."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def segserve_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "segserve.cli", *arguments]
