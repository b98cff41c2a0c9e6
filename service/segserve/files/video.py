"""Frames of a video, by PyAV: decoded when they are asked for, in any order, and forgotten."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segserve.errors import BadInput, MissingDependency, TooLarge
from segserve.types import Size, UInt8

if TYPE_CHECKING:
    import av

# By their first bytes, and by nothing else: some of FFmpeg's formats name other files, or addresses, to read.
DEMUXERS = {"mp4": "mov", "webm": "matroska", "avi": "avi", "gif": "gif"}
MAX_FRAMES = 1_000_000
REWIND_CACHE_BYTES = 64 << 20  # of frames decoded ahead of time, on the way back
MAX_READ_AHEAD_FRAMES = 32  # frames: so far ahead, reading on is quicker than looking for a key frame


def detect_video_format(head: bytes) -> str | None:
    """The container, by a file's first 12 bytes."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "webm"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    return "gif" if head[:6] in (b"GIF87a", b"GIF89a") else None


@contextmanager
def wrap_ffmpeg_errors() -> Iterator[None]:
    """Whatever FFmpeg meets becomes a refusal."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError, EOFError) as error:
        raise BadInput(
            f"The video cannot be read: {getattr(error, 'strerror', None) or error}.",  # without the path
            field="file",
            remedy="Is it complete? Saving it again with ffmpeg (-c:v libx264) often helps.",
        ) from None


class VideoFrames:
    """container: a key of FORMATS. max_pixels: of a frame. Raises BadInput, TooLarge, MissingDependency."""

    def __init__(self, path: Path, container: str, max_pixels: int) -> None:
        try:
            import av
        except ImportError:
            raise MissingDependency("PyAV", "video", "Reading a video") from None
        with wrap_ffmpeg_errors():
            # Nothing but this file is opened, whatever it says.
            self._container = av.open(
                str(path), format=DEMUXERS[container], options={"protocol_whitelist": "file"}
            )
        try:
            self._open(max_pixels)
        except BaseException:
            self._container.close()
            raise

    def _open(self, max_pixels: int) -> None:
        streams = self._container.streams.video
        if not streams:
            raise BadInput("The file has no video in it.", field="file", remedy="Send a video with pictures.")
        self._stream = streams[0]
        self._stream.thread_type = "AUTO"
        if self._stream.width * self._stream.height > max_pixels:
            raise TooLarge(
                f"Its frames are {self._stream.width} x {self._stream.height}, which is over {max_pixels} pixels.",
                field="file",
                remedy="Make it smaller.",
            )
        self._times = self._list()
        if not self._times:
            raise BadInput("The video has no frames.", field="file", remedy="Is it complete? Send it again.")
        self._kept: dict[int, UInt8] = {}
        self._last = -1
        self._seek(0)
        self.size = Size(*self._read(0).shape[:2])

    def _list(self) -> list[int]:
        """The time of every frame, in order, from the packets: nothing is decoded."""
        with wrap_ffmpeg_errors():
            packets = (p.pts for p in self._container.demux(self._stream) if p.pts is not None)
            times = sorted(islice(packets, MAX_FRAMES + 1))
        if len(times) > MAX_FRAMES:
            raise TooLarge(
                f"The video has over {MAX_FRAMES} frames.", field="file", remedy="Send it in parts."
            )
        return times

    @property
    def count(self) -> int:
        return len(self._times)

    @property
    def fps(self) -> float | None:
        rate = self._stream.average_rate
        return None if rate is None else float(rate)

    def read(self, index: int) -> UInt8:
        """RGB [H, W, 3]. Raises BadInput where it cannot be decoded."""
        going_back, self._last = index == self._last - 1, index
        if index not in self._kept:
            self._kept = self._read_up_to(index) if going_back else {}
        values = self._kept.get(index)
        if values is None:
            if not self._next <= index <= self._next + MAX_READ_AHEAD_FRAMES:
                self._seek(index)
            values = self._read(index)
        if (size := Size(*values.shape[:2])) != self.size:
            raise BadInput(
                f"Frame {index} is {size.width} x {size.height}, the first one {self.size.width} x"
                f" {self.size.height}.",
                field="file",
                remedy="Send frames of one size: ffmpeg's -vf scale makes them so.",
            )
        return values

    def _read_up_to(self, index: int) -> dict[int, UInt8]:
        """Some frames before it as well: each by itself would be decoded from its key frame on. Nothing where any of
        them is damaged."""
        most = max(1, REWIND_CACHE_BYTES // (3 * self.size.height * self.size.width))
        begin = max(0, index + 1 - min(most, MAX_READ_AHEAD_FRAMES))
        try:
            self._seek(begin)
            return {at: self._read(at) for at in range(begin, index + 1)}
        except BadInput:
            return {}

    def _seek(self, index: int) -> None:
        with wrap_ffmpeg_errors():
            self._container.seek(self._times[index], stream=self._stream, backward=True)
            self._decoded = self._container.decode(self._stream)
        self._next = 0  # unknown, and no later than index

    def _read(self, index: int) -> UInt8:
        wanted = self._times[index]
        frame: av.VideoFrame | None = None
        with wrap_ffmpeg_errors():
            for frame in self._decoded:
                if frame.pts is not None and frame.pts >= wanted:
                    break
            else:
                frame = None
        if frame is None or frame.pts != wanted:
            self._next = self.count + 1  # look for it anew, whatever is asked next
            raise BadInput(
                f"Frame {index} of the video is missing or damaged.",
                field="file",
                remedy="Is it complete? Saving it again with ffmpeg (-c:v libx264) often helps.",
            )
        self._next = index + 1
        return apply_rotation(frame)

    def close(self) -> None:
        self._container.close()


def apply_rotation(frame: Any) -> UInt8:
    """As players show it: phones store videos on their side and say so."""
    values: UInt8 = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(values, turns)) if turns else values
