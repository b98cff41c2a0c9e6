"""Read uploaded files in sandboxed processes: probe a file, open its frames, open its volume.

The libraries for videos and volumes (FFmpeg, ITK, GDCM) and the other readers of files run in `reader_process.py`, one
process a file, never in the service's own. What they answer is checked here before it is believed.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segserve.errors import (
    BadInput,
    MissingDependency,
    SegserveError,
    StorageFull,
    TooLarge,
    UnsupportedFormat,
)
from segserve.files.dicom.segment_planes import SegmentPlanes, parse_segment_planes
from segserve.files.dicom.source_instances import MAX_ANSWER_BYTES, SourceSeries, parse_source_series
from segserve.files.file_contents import (
    MAX_LISTED_CONTENTS,
    MAX_LISTED_LEFT_OUT,
    MAX_NAME_CHARS,
    MAX_NOTE_CHARS,
    MAX_NOTES,
)
from segserve.files.frames import Frames
from segserve.files.reader_memory import ReaderMemory, stopped_error
from segserve.files.video_format import DEMUXERS
from segserve.files.volume_format import DICOM_SERIES, VOLUME_FORMATS
from segserve.files.volume_geometry import VolumeGeometry
from segserve.files.zip_archive import MAX_LEFT_OUT_RANGES
from segserve.memory_budget import MemoryBudget
from segserve.sandbox.confine import Confinement
from segserve.sandbox.messages import Message
from segserve.sandbox.sandbox import ProcessDied, ProcessStopped, ProcessTimeout, Sandbox, SandboxedProcess
from segserve.sandbox.shared_pixels import SharedPixels
from segserve.temporary_files import translate_disk_full
from segserve.types import (
    MB,
    FileContent,
    FileKind,
    FileLimits,
    FileOptions,
    FileRecord,
    FrameIndex,
    LeftOut,
    LeftOutFile,
    Size,
    UInt8,
)

P = ParamSpec("P")
T = TypeVar("T")

# The module that runs in the processes.
READER_MODULE = "segserve.files.reader_process"
# Address space of a reader until the file's header has told what its pixels need. It is claimed whole.
START_MEMORY_BYTES = 384 * MB
# What `volume.py`, `video.py` and the readers of pictures need at most, and refuse beyond `limits`.
MAX_BYTES_PER_VOXEL = 16
MAX_BYTES_PER_PIXEL = 64
# Beside the timeout, a call gets a second for each 2 MB of the file: what a busy machine unpacks at least.
MIN_BYTES_PER_S = 2 * MB
FORMATS = {*DEMUXERS, *VOLUME_FORMATS, "zip", "tiff", "czi", "lif", "nd2", "ome_zarr"}
DTYPES = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"}
# What a reader may raise.
ERRORS: dict[str, type[SegserveError]] = {
    error.__name__: error for error in (BadInput, TooLarge, UnsupportedFormat, MissingDependency)
}
MAX_ERROR_CHARS = 500
# 348 or 540 bytes in hexadecimal digits.
NIFTI_HEADER_PATTERN = "^([0-9a-f]{696}|[0-9a-f]{1080})$"

log = structlog.get_logger(__name__)

Count = Annotated[int, Field(ge=1, le=1 << 40)]
Index = Annotated[int, Field(ge=0, le=1 << 40)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Three = tuple[Number, Number, Number]
Text = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
Note = Annotated[str, Field(max_length=MAX_NOTE_CHARS)]


class Reply(BaseModel):
    model_config = ConfigDict(extra="ignore")


class SizeReply(Reply):
    height: Count
    width: Count


class FramesReply(Reply):
    count: Count
    size: SizeReply


class ContentReply(FramesReply):
    series: Text
    description: Text
    times: Count
    taken_time: Annotated[int, Field(ge=0, le=1 << 40)] | None
    notes: Annotated[list[Note], Field(max_length=MAX_NOTES)]

    def to_content(self) -> FileContent:
        return FileContent(
            printable(self.series),
            printable(self.description),
            self.times,
            self.count,
            Size(self.size.height, self.size.width),
            self.taken_time,
            tuple(map(printable, self.notes)),
        )


class LeftOutFileReply(Reply):
    name: Text
    reason: Text


class LeftOutReply(Reply):
    count: Annotated[int, Field(ge=0, le=1 << 40)]
    files: Annotated[list[LeftOutFileReply], Field(max_length=MAX_LISTED_LEFT_OUT)]

    def to_left_out(self) -> LeftOut:
        return LeftOut(
            self.count,
            tuple(LeftOutFile(printable(file.name), printable(file.reason)) for file in self.files),
        )


class FrameIndexReply(Reply):
    decoded_count: Count | None
    left_out_entries: Annotated[list[tuple[Index, Index]], Field(max_length=MAX_LEFT_OUT_RANGES)] | None

    def to_frame_index(self) -> FrameIndex:
        entries = self.left_out_entries
        return FrameIndex(self.decoded_count, None if entries is None else tuple(entries))


class RecordReply(FramesReply):
    kind: FileKind
    format: str
    spacing: Three | None
    fps: Annotated[Number, Field(ge=0)] | None
    contents: Annotated[list[ContentReply], Field(max_length=MAX_LISTED_CONTENTS)]
    left_out: LeftOutReply
    frame_index: FrameIndexReply


class GeometryReply(Reply):
    size: tuple[Count, Count, Count]
    spacing: Three
    origin: Three
    direction: Annotated[tuple[Number, ...], Field(min_length=9, max_length=9)]
    window: tuple[Number, Number] | None = None
    is_placed: bool = True
    nifti_header: Annotated[str, Field(pattern=NIFTI_HEADER_PATTERN)] | None = None

    def to_geometry(self) -> VolumeGeometry:
        header = None if self.nifti_header is None else bytes.fromhex(self.nifti_header)
        return VolumeGeometry(self.size, self.spacing, self.origin, self.direction, self.is_placed, header)


class AnswerReply(Reply):
    answer_bytes: Annotated[int, Field(ge=1, le=MAX_ANSWER_BYTES)]


class SegmentsReply(Reply):
    answer_bytes: Annotated[int, Field(ge=0, le=MAX_ANSWER_BYTES)]


class VoxelsReply(Reply):
    shape: tuple[Count, Count, Count]
    dtype: str


class ErrorReply(Reply):
    type: str
    message: str
    remedy: str
    field: str | None


R = TypeVar("R", bound=Reply)


class FileReaders:
    """`FileReaders` opens files in processes of a sandbox, and kills those that it opened.

    limits: of files.
    timeout_s: time of a call, to which the size of the file adds.
    memory_mb: address space of a process; 0: what `limits` need.
    executor: threads that wait for processes.
    memory: that the processes together may use, with the pixels that they hand over; None is any.

    All methods but `run` block, and may be called from any thread.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        limits: FileLimits,
        *,
        timeout_s: float,
        memory_mb: int,
        executor: Executor,
        memory: MemoryBudget | None = None,
    ) -> None:
        self._sandbox, self.limits, self._executor = sandbox, limits, executor
        self._timeout_s, self._memory_mb, self._memory = timeout_s, memory_mb, memory
        self._lock = threading.Lock()
        self._open = set[SandboxedProcess | ReaderMemory]()
        self._killed = False

    def group(self) -> "FileReaders":
        """Return readers with the same limits, whose `kill` ends only what they opened themselves."""
        return FileReaders(
            self._sandbox,
            self.limits,
            timeout_s=self._timeout_s,
            memory_mb=self._memory_mb,
            executor=self._executor,
            memory=self._memory,
        )

    def kill(self) -> None:
        """End all open processes, and open no more. Whoever waits for one gets Unavailable."""
        with self._lock:
            self._killed = True
            for opened in self._open:
                opened.kill()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`, which uses these readers, in a thread. If the caller is cancelled, the processes are killed."""
        running = self._executor.submit(work, *args, **kwargs)
        waiting = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if not running.cancel():
                self.kill()
                # The thread is done within milliseconds; until then it uses the files that the caller deletes.
                await asyncio.wait([waiting])
                if not waiting.cancelled():
                    waiting.exception()
            raise

    def probe(self, path: Path, file_id: str, options: FileOptions = FileOptions()) -> FileRecord:
        """Return the record of a file. Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency, Unavailable."""
        with self._process(path) as process:
            request = {"operation": "probe", "options": asdict(options), "limits": asdict(self.limits)}
            reply = process.call(RecordReply, request)
        size = self._check_size(reply)
        if reply.format not in FORMATS:
            raise broken_file_error()
        return FileRecord(
            file_id,
            reply.kind,
            reply.format,
            reply.count,
            size,
            path.stat().st_size,
            time.time(),
            reply.spacing,
            reply.fps,
            options,
            tuple(content.to_content() for content in reply.contents),
            reply.left_out.to_left_out(),
            reply.frame_index.to_frame_index(),
        )

    def open_frames(
        self,
        path: Path,
        file_format: str,
        options: FileOptions = FileOptions(),
        index: FrameIndex = FrameIndex(),
    ) -> Frames:
        """Open a video, a zip of pictures or a TIFF. The caller closes it. Raises as `probe` does.

        index: of the file's record.
        """
        process = self.open_process(path)
        try:
            request = self._opening_request("open_frames", file_format, options)
            request["index"] = asdict(index)
            reply = process.call(FramesReply, request)
            return SandboxedFrames(process, reply.count, self._check_size(reply))
        except BaseException:
            process.close()
            raise

    @contextmanager
    def open_volume(
        self, path: Path, file_format: str, options: FileOptions = FileOptions()
    ) -> "Iterator[SandboxedVolume]":
        """Open a volume while the block runs. Raises as `probe` does."""
        with self._process(path) as process:
            request = self._opening_request("open_volume", file_format, options)
            reply = process.call(GeometryReply, request)
            if np.prod(reply.size, dtype=object) > self.limits.max_voxels:
                raise broken_file_error()
            has_window = reply.window is not None and reply.window[0] < reply.window[1]
            yield SandboxedVolume(process, reply.to_geometry(), reply.window if has_window else None)

    def read_source_series(self, path: Path, options: FileOptions) -> SourceSeries:
        """Return the instances that the slices of a DICOM file came from. Raises as `probe` does."""
        with self._process(path) as process:
            request = self._opening_request("load_source_series", DICOM_SERIES, options)
            reply = process.call(AnswerReply, request)
            answer = SharedPixels((reply.answer_bytes,), np.uint8)
            try:
                process.call(Reply, {"operation": "write_source_series"}, answer.descriptor)
                series = parse_source_series(answer.copy().tobytes())
            finally:
                answer.close()
        if series is None:
            raise broken_file_error()
        return series

    def read_segments(self, path: Path) -> "tuple[SegmentPlanes, UInt8] | None":
        """Return the masks of a DICOM SEG as `SegmentPlanes` describes them; None for files of other formats.

        Raises as `probe` does.
        """
        with self._process(path) as process:
            request = {"operation": "load_segments", "limits": asdict(self.limits)}
            reply = process.call(SegmentsReply, request)
            if not reply.answer_bytes:
                return None
            answer = SharedPixels((reply.answer_bytes,), np.uint8)
            try:
                process.call(Reply, {"operation": "write_segment_places"}, answer.descriptor)
                planes = parse_segment_planes(answer.copy().tobytes())
            finally:
                answer.close()
            if planes is None or 8 * self.limits.max_voxels < np.prod(planes.packed_shape, dtype=object):
                raise broken_file_error()
            masks = SharedPixels(planes.packed_shape, np.uint8)
            try:
                process.call(Reply, {"operation": "write_segments"}, masks.descriptor)
                return planes, masks.copy()
            finally:
                masks.close()

    def _opening_request(self, operation: str, file_format: str, options: FileOptions) -> Message:
        return {
            "operation": operation,
            "format": file_format,
            "options": asdict(options),
            "limits": asdict(self.limits),
        }

    def _check_size(self, reply: FramesReply) -> Size:
        """Check a size that a reader answers against the limits, which it has checked itself. Raises BadInput."""
        size = Size(reply.size.height, reply.size.width)
        if size.height * size.width > max(self.limits.max_frame_pixels, self.limits.max_voxels):
            raise broken_file_error()
        return size

    @contextmanager
    def _process(self, path: Path) -> "Iterator[FileProcess]":
        process = self.open_process(path)
        try:
            yield process
        finally:
            process.close()

    def open_process(self, path: Path) -> "FileProcess":
        """Open a process for a file. The caller closes it. Raises TooLarge, Busy, Unavailable, StorageFull."""
        limits = self.limits
        pixel_bytes = max(
            MAX_BYTES_PER_VOXEL * limits.max_voxels, MAX_BYTES_PER_PIXEL * limits.max_frame_pixels
        )
        max_memory_bytes = self._memory_mb * MB or START_MEMORY_BYTES + pixel_bytes
        memory = ReaderMemory(self._memory)
        self._remember(memory)
        try:
            memory.claim(START_MEMORY_BYTES)
            process = self._start_process(path, max_memory_bytes, max(limits.max_mb * MB, pixel_bytes))
        except BaseException:
            self._forget(memory)
            raise
        self._remember(process)
        timeout_s = self._timeout_s + path.stat().st_size / MIN_BYTES_PER_S
        return FileProcess(process, memory, timeout_s, self._forget)

    def _start_process(self, path: Path, max_memory_bytes: int, max_file_bytes: int) -> SandboxedProcess:
        with translate_disk_full():
            scratch = tempfile.TemporaryDirectory()
        try:
            confinement = Confinement(
                readable=str(path.resolve()),
                scratch=str(Path(scratch.name).resolve()),
                start_memory_bytes=START_MEMORY_BYTES,
                max_memory_bytes=max_memory_bytes,
                max_file_bytes=max_file_bytes,
            )
            return self._sandbox.open(confinement, scratch)
        except BaseException:
            scratch.cleanup()
            raise

    def _remember(self, opened: SandboxedProcess | ReaderMemory) -> None:
        with self._lock:
            self._open.add(opened)
            if self._killed:
                opened.kill()

    def _forget(self, closed: SandboxedProcess | ReaderMemory) -> None:
        closed.close()
        with self._lock:
            self._open.discard(closed)


class FileProcess:
    """`FileProcess` calls the process of one file, and raises what it answers.

    memory: what the process uses of the budget.
    timeout_s: time of a call.
    close: ends a process, gives memory back.
    has_died: after a call that ended the process.
    """

    def __init__(
        self,
        process: SandboxedProcess,
        memory: ReaderMemory,
        timeout_s: float,
        close: Callable[[SandboxedProcess | ReaderMemory], None],
    ) -> None:
        self._process, self._memory, self._timeout_s, self._close = process, memory, timeout_s, close
        self.has_died = False

    def call(self, reply_type: type[R], request: Message, descriptor: int | None = None) -> R:
        """Return the checked result of a request. descriptor: what the process writes to.

        Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency, Unavailable, Busy.
        """
        files = [] if descriptor is None else [descriptor]
        timed = {**request, "cpu_s": self._timeout_s}
        # The CPU time ends first, where the file keeps the process busy. Waiting takes longer on a busy machine.
        try:
            reply = self._process.call(timed, files, timeout_s=2 * self._timeout_s, on_claim=self._claim)
        except ProcessStopped:
            raise stopped_error() from None
        except ProcessTimeout:
            self.has_died = True
            log.warning("a file took too long to read", seconds=round(self._timeout_s))
            raise BadInput(
                f"The file was not read within {self._timeout_s:.0f} seconds.",
                field="file",
                remedy="Is it damaged? Save it again, send a part of it, or ask the operator to raise"
                " SEGSERVE_READER_TIMEOUT_S.",
            ) from None
        except ProcessDied as death:
            self.has_died = True
            log.warning("a file ended its reader", signal=death.signal_number)
            raise broken_file_error() from None
        if "error" in reply:
            raise self._to_error(reply)
        try:
            return reply_type.model_validate(reply.get("result"))
        except ValidationError:
            raise broken_file_error() from None

    def _claim(self, needed_bytes: int) -> None:
        """Called when the process claims what the file's header says that it needs."""
        self._memory.claim(START_MEMORY_BYTES + needed_bytes)

    def _to_error(self, reply: Message) -> SegserveError:
        if (cause := reply.get("cause")) is not None:
            log.warning("a reader failed", cause=printable(str(cause)))
        with suppress(ValidationError):
            described = ErrorReply.model_validate(reply["error"])
            if described.type == StorageFull.__name__:
                return StorageFull()
            if (error_type := ERRORS.get(described.type)) is not None:
                error = error_type.__new__(error_type)  # MissingDependency makes its message itself
                SegserveError.__init__(
                    error,
                    printable(described.message),
                    remedy=printable(described.remedy),
                    field=None if described.field is None else printable(described.field),
                )
                return error
        return broken_file_error()

    def give_memory_back(self) -> None:
        """Hold nothing of the budget any more, because the caller does for what the process uses from here on."""
        self._memory.reduce(0)

    def end(self, kept_bytes: int) -> None:
        """End the process. kept_bytes: of the pixels that it has handed over, which `close` gives back."""
        self._close(self._process)
        self._memory.reduce(kept_bytes)

    def close(self) -> None:
        self._close(self._process)
        self._close(self._memory)


class SandboxedFrames:
    """`SandboxedFrames` are frames that a process reads. They close it."""

    def __init__(self, process: FileProcess, count: int, size: Size) -> None:
        self._process, self.count, self.size = process, count, size
        self._pixels = SharedPixels((size.height, size.width, 3), np.uint8)

    def read(self, index: int) -> UInt8:
        """Return frame `index` from 0, RGB [H, W, 3]. Raises BadInput, Unavailable."""
        self._process.call(Reply, {"operation": "read_frame", "index": index}, self._pixels.descriptor)
        return self._pixels.copy()

    def close(self) -> None:
        self._process.close()
        self._pixels.close()


class SandboxedVolume:
    """`SandboxedVolume` is a volume that a process reads.

    window: (low, high), the values that the file itself says to show black and white, or None.
    """

    def __init__(
        self, process: FileProcess, geometry: VolumeGeometry, window: tuple[float, float] | None = None
    ) -> None:
        self._process, self.geometry, self.window = process, geometry, window

    def voxels(self) -> NDArray[Any]:
        """Return [slices, rows, columns] in the file's own dtype, read-only. Call it once: it ends the process.

        Raises BadInput, TooLarge, Unavailable.
        """
        reply = self._process.call(VoxelsReply, {"operation": "load_voxels"})
        if reply.shape != self.geometry.size[::-1] or reply.dtype not in DTYPES:
            raise broken_file_error()
        pixels = SharedPixels(reply.shape, reply.dtype)
        try:
            self._process.call(Reply, {"operation": "write_voxels"}, pixels.descriptor)
            self._process.end(pixels.size_bytes)
            return pixels.view()
        finally:
            pixels.close()


def broken_file_error() -> BadInput:
    return BadInput(
        "The file cannot be read: it stops its reader.",
        field="file",
        remedy="Is it complete? Open it in a viewer and save it again.",
    )


def printable(text: str) -> str:
    """Return the text without control characters, and not longer than an error is."""
    return "".join(character if character.isprintable() else " " for character in text[:MAX_ERROR_CHARS])
