"""A job on the service, for `AsyncClient`. See `job`, which blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from segserve_client import job_calls
from segserve_client.async_transport import AsyncTransport
from segserve_client.job import EVENTS_TIMEOUT_S, FIRST_POLL_S, POLL_S, RECONNECT_PAUSE_S
from segserve_client.job_answers import SUCCEEDED, JobFailed, JobInfo, JobStillRunning
from segserve_client.job_calls import Download, EventStream, LineStream
from segserve_client.prompts import Objects, objects_to_json
from segserve_client.uploads import OnProgress

L = TypeVar("L")


class AsyncJob(Generic[L]):
    """`AsyncJob` is long work on the service. `async for line in job` reads its results. Methods are those of `Job`."""

    def __init__(
        self,
        transport: AsyncTransport,
        info: JobInfo,
        parse: Callable[[Any], L],
        failed: Sequence[L] = (),
    ) -> None:
        self._transport, self.info, self._parse, self._failed = transport, info, parse, tuple(failed)
        self._kept: list[int] = []

    @property
    def job_id(self) -> str:
        return self.info.job_id

    @property
    def state(self) -> str:
        """As last told: queued, running, succeeded, failed or cancelled."""
        return self.info.state

    def __aiter__(self) -> AsyncIterator[L]:
        return self.results()

    async def results(self, start: int = 0) -> AsyncGenerator[L, None]:
        """As `Job.results`."""
        if start == 0:
            for failure in self._failed:
                yield failure
        lines = LineStream(self.job_id, start, self._parse)
        corrections = len(self._kept)
        while True:
            async with aclosing(self._changes()) as changes:
                async for info in changes:
                    if info.done > lines.position or info.has_ended:
                        async with aclosing(self._transport.stream(lines)) as stream:
                            async for line in stream:
                                yield line
                                if corrections != len(self._kept):
                                    break
                    if corrections != len(self._kept):
                        lines.position = min(lines.position, *self._kept[corrections:])
                        corrections = len(self._kept)
                        break
                else:
                    if self.info.state != SUCCEEDED:
                        raise JobFailed(self.info)
                    return

    async def _changes(self) -> AsyncGenerator[JobInfo, None]:
        if not (await self.refresh()).has_ended:
            yield self.info
            async for info in self.events():
                yield info
        yield self.info

    async def events(self, last_event_id: str | None = None) -> AsyncGenerator[JobInfo, None]:
        """As `Job.events`."""
        stream = EventStream(self.job_id, last_event_id)
        while True:
            before = stream.last_event_id
            async for info in self._transport.stream(stream, read_timeout_s=EVENTS_TIMEOUT_S):
                self.info = info
                yield info
            if (await self.refresh()).has_ended:
                return
            if stream.last_event_id == before:
                await asyncio.sleep(RECONNECT_PAUSE_S)

    async def refresh(self) -> JobInfo:
        """Return the job as it is now."""
        self.info = await self._transport.call(job_calls.get_job(self.job_id))
        return self.info

    async def wait(
        self, timeout_s: float | None = None, on_progress: Callable[[JobInfo], None] | None = None
    ) -> JobInfo:
        """As `Job.wait`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause = FIRST_POLL_S
        while not (await self.refresh()).has_ended:
            if on_progress is not None:
                on_progress(self.info)
            if deadline is not None and time.monotonic() > deadline:
                raise JobStillRunning(self.info, timeout_s or 0.0)
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, POLL_S)
        if on_progress is not None:
            on_progress(self.info)
        if self.info.state != SUCCEEDED:
            raise JobFailed(self.info)
        return self.info

    async def add_prompts(self, objects: Objects, names: Mapping[int, str] | None = None) -> JobInfo:
        """As `Job.add_prompts`."""
        body = objects_to_json(objects, names or {})
        self.info = await self._transport.call(job_calls.add_prompts(self.job_id, body))
        self._kept.append(self.info.done)
        return self.info

    async def cancel(self) -> JobInfo:
        """Stop the job within one image or frame. What is done can still be read."""
        self.info = await self._transport.call(job_calls.cancel(self.job_id))
        return self.info

    async def delete(self) -> None:
        """As `Job.delete`."""
        if await self._transport.call(job_calls.delete(self.job_id)) is not None:
            await self._transport.call(job_calls.delete(self.job_id))

    async def retry(self) -> JobInfo:
        """Go on with a job that failed or was cancelled."""
        self.info = await self._transport.call(job_calls.retry(self.job_id))
        return self.info

    async def download(
        self, format: str, path: str | PathLike[str], on_progress: OnProgress | None = None
    ) -> Path:
        """As `Job.download`."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as out:
                await self.download_to(format, out, on_progress)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    async def download_to(self, format: str, out: BinaryIO, on_progress: OnProgress | None = None) -> None:
        """Write the results into `out`, which must be seekable and is emptied first."""
        async for size in self._transport.stream(Download(self.job_id, format, out)):
            if on_progress is not None:
                on_progress(size, None)

    async def read(self, format: str) -> bytes:
        """Return the results as bytes; they must fit into memory."""
        out = BytesIO()
        await self.download_to(format, out)
        return out.getvalue()
