"""Read the frames of a video: decoded on request, in any order."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from segserve.errors import BadInput
from segserve.files.check_video import (
    check_frame_size,
    describe_damage,
    describe_early_end,
    describe_gaps,
    describe_missing_frames,
    has_expected_frames,
)
from segserve.files.frame_to_rgb import to_rgb
from segserve.files.video_completeness import describe_missing_bytes
from segserve.files.video_decoder import VideoDecoder
from segserve.files.video_packets import FrameOrder
from segserve.types import Size, UInt8

if TYPE_CHECKING:
    import av

# Frames that are decoded together when a video is read backwards, and the memory for them.
MAX_REWOUND_FRAMES = 32
REWIND_CACHE_BYTES = 64 << 20
# Up to this many frames ahead, decoding on is quicker than seeking a key frame.
MAX_READ_AHEAD_FRAMES = 32


class VideoFrames:
    """`VideoFrames` decodes frames of a video: those that the decoder delivers from the first packet on.

    file_format: a key of `video_format.DEMUXERS`.
    max_pixels: limit for a frame.
    decoded_count: number of frames of a video whose packets do not tell them, if it is known. Which packet a frame
    comes from is then learned as frames are read. If it is not known, all frames are decoded on opening.

    Raises BadInput, TooLarge, MissingDependency.
    """

    def __init__(
        self, path: Path, file_format: str, max_pixels: int, decoded_count: int | None = None
    ) -> None:
        self._path, self._file_format = path, file_format
        self._decoder = VideoDecoder(path, file_format, max_pixels)
        # The frames from here on, with their indices.
        self._decoded: Iterator[tuple[int, av.VideoFrame]] = iter(())
        # None after seeking, until a frame is decoded.
        self._next_index: int | None = None
        try:
            self._packets = self._decoder.scan()
            order = self._packets.order_by_time() if decoded_count is None else None
            self._use_order(order, decoded_count)
        except BaseException:
            self._decoder.close()
            raise

    def _use_order(self, order: FrameOrder | None, decoded_count: int | None = None) -> None:
        """Find frames by `order`; None: in the order in which they are decoded, which decoding tells."""
        self.is_ordered_by_time = order is not None
        self._order = FrameOrder() if order is None else order
        self._rewound: dict[int, UInt8] = {}
        self._last_index = -1
        self._stored_size: Size | None = None
        self._decoder.is_parallel = order is not None
        self._restart()
        if order is None and decoded_count is None:
            for _ in self._decoded:
                pass
        self.count = len(self._order) if decoded_count is None else decoded_count
        if not self.count:
            raise BadInput(
                "No frame of the video can be decoded." if self._packets.keys else "The video has no frames.",
                field="file",
                remedy="Is it complete? Send it again.",
            )
        self._failed = list(self._decoder.failed)
        self._restart()
        if (first := self._decode_until(0)) is None:
            return self._use_order(None)  # the times are wrong
        self.size = Size(*to_rgb(first).shape[:2])

    def check(self) -> list[str]:
        """Check that all frames can be read. Returns a sentence for each thing about them that is unusual.

        Raises BadInput.
        """
        if self.is_ordered_by_time and not has_expected_frames(self._decoder, self._packets, self._order):
            self._use_order(None)
        self._restart()
        return [
            *describe_damage(self._packets, self._order, self._failed),
            *describe_gaps(self._packets, self._order, self._decoder.seconds_per_tick),
            *describe_early_end(
                self._packets, self._order, self._decoder.stated_seconds, self._decoder.seconds_per_tick
            ),
            *describe_missing_frames(self._packets, self._decoder.stated_frames),
            *describe_missing_bytes(self._path, self._file_format),
        ]

    @property
    def fps(self) -> float | None:
        return self._decoder.fps

    def read(self, index: int) -> UInt8:
        """Return frame `index` from 0, RGB [H, W, 3]. Raises BadInput where it cannot be decoded."""
        is_backwards, self._last_index = index == self._last_index - 1, index
        if index not in self._rewound:
            self._rewound = self._read_up_to(index) if is_backwards else {}
        values = self._rewound.get(index)
        return to_rgb(self._find(index)) if values is None else values

    def _read_up_to(self, index: int) -> dict[int, UInt8]:
        """Return frame `index` and some frames before it, by index; nothing where any of them is damaged.

        Read one by one backwards, every frame would be decoded from its key frame on.
        """
        max_frames = max(1, REWIND_CACHE_BYTES // (3 * self.size.height * self.size.width))
        begin = max(0, index + 1 - min(max_frames, MAX_REWOUND_FRAMES))
        try:
            return {at: to_rgb(self._find(at)) for at in range(begin, index + 1)}
        except BadInput:
            return {}

    def _find(self, index: int) -> "av.VideoFrame":
        """Decode frame `index`. Raises BadInput where it is missing."""
        self._approach(index)
        if (frame := self._decode_until(index)) is None:
            self._restart()  # some containers do not come to the place that they are asked for
            frame = self._decode_until(index)
        if frame is None:
            raise BadInput(
                f"Frame {index} of the video is missing or damaged.",
                field="file",
                remedy="Is it complete? Saving it again with ffmpeg (-c:v libx264) often helps.",
            )
        return frame

    def _approach(self, index: int) -> None:
        """Go to the last place from which frame `index` is decoded right, unless decoding on is quicker."""
        last_known = min(index, len(self._order) - 1)
        start = 0 if last_known < 0 else self._packets.start_of(last_known, self._order)
        if self._next_index is not None and self._next_index <= index:
            is_near = index <= self._next_index + MAX_READ_AHEAD_FRAMES
            if is_near or start <= self._decoder.next_packet:
                return
        self._decoder.seek(start)
        self._next_index = None if self._decoder.next_packet else 0
        self._decoded = self._decode()

    def _restart(self) -> None:
        self._decoded = iter(())  # lets go of its decoder
        self._decoder.restart()
        self._next_index = 0
        self._decoded = self._decode()

    def _decode(self) -> "Iterator[tuple[int, av.VideoFrame]]":
        """Yield the frames from here on, each with its index, which is learned where it is not known."""
        for packet, frame in self._decoder.frames():
            index = self._next_index
            if index is None or (index < len(self._order) and self._order.ordered[index] != packet):
                index = self._order.index_of(packet)
            if index is None or (self.is_ordered_by_time and index == len(self._order)):
                continue
            if index == len(self._order):
                self._order.append(packet)
            size = Size(frame.height, frame.width)
            self._stored_size = self._stored_size or size
            check_frame_size(index, size, self._stored_size)
            self._next_index = index + 1
            yield index, frame

    def _decode_until(self, index: int) -> "av.VideoFrame | None":
        """Decode on until frame `index`. Returns None where it is missing."""
        for at, frame in self._decoded:
            if at == index:
                return frame
            if at > index:
                break
        return None

    def close(self) -> None:
        self._decoder.close()
