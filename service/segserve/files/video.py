"""Read the frames of a video with PyAV (FFmpeg): decoded on request, in any order."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segserve.errors import BadInput, MissingDependency, TooLarge
from segserve.files.video_format import DEMUXERS
from segserve.sandbox.confine import allow_memory
from segserve.types import Size, UInt8

if TYPE_CHECKING:
    import av

MAX_FRAMES = 1_000_000
# A decoder holds up to 17 frames of H.264 and two for each thread, most of them with 1.5 bytes a pixel.
MAX_BYTES_PER_PIXEL = 64
# Memory for frames that are decoded together when a video is read backwards.
REWIND_CACHE_BYTES = 64 << 20
# Up to this many frames ahead, decoding on is quicker than seeking a key frame.
MAX_READ_AHEAD_FRAMES = 32


@contextmanager
def wrap_ffmpeg_errors() -> Iterator[None]:
    """Turn FFmpeg's errors in the block into BadInput."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError, EOFError):
        raise BadInput(
            "The video cannot be read.",
            field="file",
            remedy="Is it complete? Saving it again with ffmpeg (-c:v libx264) often helps.",
        ) from None


class VideoFrames:
    """`VideoFrames` decodes frames of a video.

    file_format: a key of DEMUXERS.
    max_pixels: limit for a frame.
    Raises BadInput, TooLarge, MissingDependency.
    """

    def __init__(self, path: Path, file_format: str, max_pixels: int) -> None:
        try:
            import av
        except ImportError:
            raise MissingDependency("PyAV", "video", "Reading a video") from None
        with wrap_ffmpeg_errors():
            # The whitelist keeps FFmpeg from opening anything but this file.
            self._container = av.open(
                str(path), format=DEMUXERS[file_format], options={"protocol_whitelist": "file"}
            )
        try:
            self._open_stream(max_pixels)
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self, max_pixels: int) -> None:
        streams = self._container.streams.video
        if not streams:
            raise BadInput("The file has no video in it.", field="file", remedy="Send a video with pictures.")
        self._stream = streams[0]
        if getattr(self._stream, "codec_context", None) is None:
            raise BadInput(
                "The video is in a codec that is not known.",
                field="file",
                remedy="Save it again with ffmpeg (-c:v libx264).",
            )
        self._stream.thread_type = "AUTO"
        if self._stream.width * self._stream.height > max_pixels:
            raise TooLarge(
                f"Its frames are {self._stream.width} x {self._stream.height}, which is over {max_pixels} pixels.",
                field="file",
                remedy="Make it smaller.",
            )
        allow_memory(MAX_BYTES_PER_PIXEL * self._stream.width * self._stream.height)
        self._times = self._list_times()
        if not self._times:
            raise BadInput("The video has no frames.", field="file", remedy="Is it complete? Send it again.")
        self._rewound: dict[int, UInt8] = {}
        self._last_index = -1
        self._seek(0)
        self.size = Size(*self._decode(0).shape[:2])

    def _list_times(self) -> list[int]:
        """Return the time of every frame, ascending. The times come from the packets; nothing is decoded."""
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
        """Return frame `index` from 0, RGB [H, W, 3]. Raises BadInput where it cannot be decoded."""
        is_backwards, self._last_index = index == self._last_index - 1, index
        if index not in self._rewound:
            self._rewound = self._decode_up_to(index) if is_backwards else {}
        values = self._rewound.get(index)
        if values is None:
            if not self._next_index <= index <= self._next_index + MAX_READ_AHEAD_FRAMES:
                self._seek(index)
            values = self._decode(index)
        if (size := Size(*values.shape[:2])) != self.size:
            raise BadInput(
                f"Frame {index} is {size.width} x {size.height}, the first one {self.size.width} x"
                f" {self.size.height}.",
                field="file",
                remedy="Send frames of one size: ffmpeg's -vf scale makes them so.",
            )
        return values

    def _decode_up_to(self, index: int) -> dict[int, UInt8]:
        """Return frame `index` and some frames before it, by index; nothing where any of them is damaged.

        Read one by one backwards, every frame would be decoded from its key frame on.
        """
        max_frames = max(1, REWIND_CACHE_BYTES // (3 * self.size.height * self.size.width))
        begin = max(0, index + 1 - min(max_frames, MAX_READ_AHEAD_FRAMES))
        try:
            self._seek(begin)
            return {at: self._decode(at) for at in range(begin, index + 1)}
        except BadInput:
            return {}

    def _seek(self, index: int) -> None:
        with wrap_ffmpeg_errors():
            self._container.seek(self._times[index], stream=self._stream, backward=True)
            self._decoded = self._container.decode(self._stream)
        self._next_index = 0  # the next decoded frame is unknown, but not after `index`

    def _decode(self, index: int) -> UInt8:
        """Decode on until frame `index`. Raises BadInput where it is missing."""
        time = self._times[index]
        frame: av.VideoFrame | None = None
        with wrap_ffmpeg_errors():
            for frame in self._decoded:
                if frame.pts is not None and frame.pts >= time:
                    break
            else:
                frame = None
        if frame is None or frame.pts != time:
            self._next_index = self.count + 1  # makes the next `read` seek
            raise BadInput(
                f"Frame {index} of the video is missing or damaged.",
                field="file",
                remedy="Is it complete? Saving it again with ffmpeg (-c:v libx264) often helps.",
            )
        self._next_index = index + 1
        return apply_rotation(frame)

    def close(self) -> None:
        self._container.close()


def apply_rotation(frame: Any) -> UInt8:
    """Return RGB [H, W, 3] rotated as the frame states: phones store videos on their side."""
    values: UInt8 = frame.to_ndarray(format="rgb24")
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(values, quarter_turns)) if quarter_turns else values
