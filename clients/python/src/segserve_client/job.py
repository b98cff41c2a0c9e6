"""A job on the service: its results as they come, its events, corrections, downloads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from segserve_client import job_calls
from segserve_client.job_answers import SUCCEEDED, JobFailed, JobInfo, JobStillRunning
from segserve_client.job_calls import Download, EventStream, LineStream
from segserve_client.prompts import Objects, objects_to_json
from segserve_client.transport import Transport
from segserve_client.uploads import OnProgress

L = TypeVar("L")

FIRST_POLL_S = 0.1
POLL_S = 0.5
# The service sends a sign of life every 15 s while nothing happens.
EVENTS_TIMEOUT_S = 60.0
# A service that closes a stream of events again and again is not asked without a pause.
RECONNECT_PAUSE_S = 0.5


class Job(Generic[L]):
    """`Job` is long work on the service. `for line in job` reads its results, each once, as soon as they are there.

    L: what a result is: `Frame` of videos, volumes and tracks, `Item` of batches.
    info: the job as it was when the service last told it.
    """

    def __init__(
        self,
        transport: Transport,
        info: JobInfo,
        parse: Callable[[Any], L],
        failed: Sequence[L] = (),
    ) -> None:
        """failed: results of what could not even be sent; they come first."""
        self._transport, self.info, self._parse, self._failed = transport, info, parse, tuple(failed)
        self._kept: list[int] = []  # of each correction: how many of the earlier lines still count

    @property
    def job_id(self) -> str:
        return self.info.job_id

    @property
    def state(self) -> str:
        """As last told: queued, running, succeeded, failed or cancelled."""
        return self.info.state

    def __iter__(self) -> Iterator[L]:
        return self.results()

    def results(self, start: int = 0) -> Iterator[L]:
        """Yield the results from number `start` on until the job has ended, waiting for those that are still to come.

        Each comes once, however often the connection breaks or the service is restarted. After a correction by
        `add_prompts` those that the correction changes come again.

        Raises JobFailed at the end where the job failed or was cancelled.
        """
        if start == 0:
            yield from self._failed
        lines = LineStream(self.job_id, start, self._parse)
        corrections = len(self._kept)
        while True:
            for info in self._changes():
                if info.done > lines.position or info.has_ended:
                    yield from self._read_lines(lines, corrections)
                if corrections != len(self._kept):
                    lines.position = min(lines.position, *self._kept[corrections:])
                    corrections = len(self._kept)
                    break
            else:
                if self.info.state != SUCCEEDED:
                    raise JobFailed(self.info)
                return

    def _read_lines(self, lines: LineStream[L], corrections: int) -> Iterator[L]:
        for line in self._transport.stream(lines):
            yield line
            if corrections != len(self._kept):  # the next one may be from before the correction
                return

    def _changes(self) -> Iterator[JobInfo]:
        """Yield the job as it is, then after every change, and at last when it has ended."""
        if not self.refresh().has_ended:
            yield self.info
            yield from self.events()
        yield self.info

    def events(self, last_event_id: str | None = None) -> Iterator[JobInfo]:
        """Yield the job after every change, from its submission on, until it has ended. None is missed, none repeated.

        last_event_id: go on after this event.
        """
        stream = EventStream(self.job_id, last_event_id)
        while True:
            before = stream.last_event_id
            for info in self._transport.stream(stream, read_timeout_s=EVENTS_TIMEOUT_S):
                self.info = info
                yield info
            # The end of an earlier revision ends the stream too, and so does a service that stops.
            if self.refresh().has_ended:
                return
            if stream.last_event_id == before:
                time.sleep(RECONNECT_PAUSE_S)

    def refresh(self) -> JobInfo:
        """Return the job as it is now."""
        self.info = self._transport.call(job_calls.get_job(self.job_id))
        return self.info

    def wait(
        self, timeout_s: float | None = None, on_progress: Callable[[JobInfo], None] | None = None
    ) -> JobInfo:
        """Wait until the job has succeeded, and return it. on_progress: called with the job now and then.

        Raises JobFailed where it failed or was cancelled, JobStillRunning after the timeout.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause = FIRST_POLL_S
        while not self.refresh().has_ended:
            if on_progress is not None:
                on_progress(self.info)
            if deadline is not None and time.monotonic() > deadline:
                raise JobStillRunning(self.info, timeout_s or 0.0)
            time.sleep(pause)
            pause = min(1.5 * pause, POLL_S)
        if on_progress is not None:
            on_progress(self.info)
        if self.info.state != SUCCEEDED:
            raise JobFailed(self.info)
        return self.info

    def add_prompts(self, objects: Objects, names: Mapping[int, str] | None = None) -> JobInfo:
        """Add objects, and corrections of objects that the job has. Only what they change is made again.

        objects: the prompts of each object, by its number. names: what objects are, by their numbers.

        A loop over the results that is going on goes back to the first one that changes.
        """
        body = objects_to_json(objects, names or {})
        self.info = self._transport.call(job_calls.add_prompts(self.job_id, body))
        self._kept.append(self.info.done)
        return self.info

    def cancel(self) -> JobInfo:
        """Stop the job within one image or frame. What is done can still be read."""
        self.info = self._transport.call(job_calls.cancel(self.job_id))
        return self.info

    def delete(self) -> None:
        """Stop the job if it runs, and delete it with its results."""
        if self._transport.call(job_calls.delete(self.job_id)) is not None:
            self._transport.call(job_calls.delete(self.job_id))

    def retry(self) -> JobInfo:
        """Go on with a job that failed or was cancelled."""
        self.info = self._transport.call(job_calls.retry(self.job_id))
        return self.info

    def download(self, format: str, path: str | PathLike[str], on_progress: OnProgress | None = None) -> Path:
        """Write the results that are there by now into a file, whole or not at all, and return its path.

        format: coco, png, tiff, tiff_stack, nifti, nrrd, mha, dicom_seg, mp4, sheet, ctc or ndjson; docs/jobs.md says
        which a kind of job has. on_progress: called with the bytes that are written, and None.
        """
        target = Path(path)
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as out:
                self.download_to(format, out, on_progress)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def download_to(self, format: str, out: BinaryIO, on_progress: OnProgress | None = None) -> None:
        """Write the results into `out`, which must be seekable and is emptied first."""
        for size in self._transport.stream(Download(self.job_id, format, out)):
            if on_progress is not None:
                on_progress(size, None)

    def read(self, format: str) -> bytes:
        """Return the results as bytes; they must fit into memory."""
        out = BytesIO()
        self.download_to(format, out)
        return out.getvalue()
