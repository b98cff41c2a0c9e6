"""Decode one stream of a video with PyAV (FFmpeg), and tell for each frame which packet it comes from."""

import gc
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from segserve.errors import BadInput, MissingDependency, TooLarge
from segserve.files.video_completeness import describe_missing_bytes
from segserve.files.video_format import DEMUXERS
from segserve.files.video_packets import PacketKey, Packets, scan_packets
from segserve.sandbox.confine import allow_memory

if TYPE_CHECKING:
    import av

# A decoder holds up to 17 frames of H.264 and two for each thread, most of them with 1.5 bytes a pixel.
MAX_BYTES_PER_PIXEL = 64
# Formats whose header states how long the file is.
FORMATS_WITH_DURATION = {"webm", "mkv", "wmv"}
AV_TIME_BASE = 1_000_000
# After seeking, packets up to the wanted one are skipped. Where there are more, decoding starts at the beginning.
MAX_SKIPPED_PACKETS = 5000


class VideoDecoder:
    """`VideoDecoder` decodes one stream of a video from its first packet on, or from a key packet.

    file_format: a key of DEMUXERS.
    max_pixels: limit for a frame.
    is_parallel: whether frames are decoded in several threads, from the next `restart` on. Then what is delivered of
    damaged frames depends on chance.
    failed: packets that could not be decoded so far, or only in part; in several threads, some later ones.
    next_packet: number of the packet that is decoded next.
    Raises BadInput, TooLarge, MissingDependency.
    """

    def __init__(self, path: Path, file_format: str, max_pixels: int) -> None:
        self._path, self._file_format, self._max_pixels = path, file_format, max_pixels
        self._packets, self._number_by_key = Packets(), dict[PacketKey, int]()
        self._number_by_time: dict[int | None, int] = {}
        self.is_parallel = True
        self._open()

    def _open(self) -> None:
        try:
            import av
        except ImportError:
            raise MissingDependency("PyAV", "video", "Reading a video") from None
        try:
            # The whitelist keeps FFmpeg from opening anything but this file.
            self._container = av.open(
                str(self._path),
                format=DEMUXERS[self._file_format],
                options={"protocol_whitelist": "file"},
                metadata_errors="replace",
            )
        except (av.FFmpegError, ValueError, EOFError):
            raise self._unreadable_error(
                "The video cannot be read.",
                "Is it complete? Saving it again with ffmpeg (-c:v libx264) often helps.",
            ) from None
        try:
            self._open_stream()
        except BaseException:
            self._container.close()
            raise

    def _open_stream(self) -> None:
        import av.stream

        stream = self._container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise self._unreadable_error("The file has no video in it.", "Send a video with pictures.")
        if getattr(stream, "codec_context", None) is None:
            raise self._unreadable_error(
                "The video is in a codec that is not known.", "Save it again with ffmpeg (-c:v libx264)."
            )
        self.check_pixels(stream.width, stream.height)
        allow_memory(MAX_BYTES_PER_PIXEL * stream.width * stream.height)
        stream.thread_type = "AUTO" if self.is_parallel else "SLICE"
        self._opened_parallel = self.is_parallel
        stream.codec_context.copy_opaque = True
        self._stream = stream
        self.failed: list[int] = []
        self.next_packet = self._first_packet = 0
        self._demuxed = self._demux()

    def check_pixels(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise TooLarge(
                f"Its frames are {width} x {height}, which is over {self._max_pixels} pixels.",
                field="file",
                remedy="Make it smaller.",
            )

    @property
    def frame_pixels(self) -> int:
        """Return the pixels of a frame as the container states them, at least 1."""
        return max(1, int(self._stream.width * self._stream.height))

    @property
    def seconds_per_tick(self) -> float:
        """Return the unit of the packets' times."""
        return float(self._stream.time_base)

    @property
    def stated_seconds(self) -> float:
        """Return how long the file says that its only stream is; 0 where that is not known, or an edit list cuts it."""
        is_stated = self._file_format in FORMATS_WITH_DURATION and len(self._container.streams) == 1
        return (self._container.duration or 0) / AV_TIME_BASE if is_stated else 0.0

    @property
    def stated_frames(self) -> int:
        """Return how many packets the file's header states; 0 where it is not known, or an edit list takes some."""
        return int(self._stream.frames) if self._file_format == "avi" else 0

    @property
    def fps(self) -> float | None:
        rate = self._stream.average_rate or self._stream.guessed_rate
        return None if rate is None else float(rate)

    def _demux(self) -> "Iterator[av.Packet]":
        """Yield the stream's packets from here on. Empty ones have no frame, and would end decoding."""
        return (packet for packet in self._container.demux(self._stream) if packet.size)

    def scan(self) -> Packets:
        """Return what all packets tell. Then decoding starts at the first one. Raises BadInput, TooLarge."""
        import av

        context, packets = self._stream.codec_context, Packets()
        try:
            scan_packets(self._demuxed, context.codec.name, context.extradata, packets)
        except av.FFmpegError:
            raise self._cut_short_error(len(packets.keys)) from None
        # An edit list may leave out frames at the end, but no part of one.
        last = len(packets.keys) - 1
        if last in packets.damaged[-1:] and last + 1 < self._stream.frames:
            raise self._cut_short_error(last + 1)
        self._packets, self._number_by_key = packets, packets.number_by_key()
        self._number_by_time = packets.number_by_time()
        self._reopen()
        return packets

    def _unreadable_error(self, message: str, remedy: str) -> BadInput:
        """Return a refusal, which says first whether a part of the file is missing."""
        if missing := describe_missing_bytes(self._path, self._file_format):
            message, remedy = missing[0], "Send it again."
        return BadInput(message, field="file", remedy=remedy)

    def _cut_short_error(self, count: int) -> BadInput:
        stated = f" of its {self._stream.frames}" if self._stream.frames > count else ""
        return BadInput(
            f"The video is cut short or damaged: it ends after {count}{stated} frames.",
            field="file",
            remedy="Send it again; or save what there is of it with ffmpeg (-c copy).",
        )

    def restart(self) -> None:
        """Decode from the first packet on."""
        if not self._seek(0):
            self._reopen()

    def _reopen(self) -> None:
        self._container.close()
        # PyAV's objects refer to each other. Each decoder that waits to be collected keeps its threads.
        del self._container, self._stream, self._demuxed
        gc.collect()
        self._open()

    def seek(self, key_packet: int) -> None:
        """Decode from a key packet on; from the first one where the container cannot seek."""
        if not self._seek(key_packet):
            self.restart()

    def _seek(self, key_packet: int) -> bool:
        """Decode from a key packet on. Returns False where the container does not come to it."""
        if not self._packets.keys or self._opened_parallel is not self.is_parallel:
            return False
        pts, dts, _ = key = self._packets.keys[key_packet]
        times = dict.fromkeys(time for time in (pts, dts) if time is not None)
        is_known = self._number_by_key.get(key) == key_packet
        return is_known and any(self._seek_time(time, key_packet) for time in times)

    def _seek_time(self, time: int, key_packet: int) -> bool:
        """Seek, and skip packets up to the key packet. Returns whether it came."""
        import av

        try:
            self._container.seek(time, stream=self._stream)
            demuxed = self._demux()
            for _, packet in zip(range(MAX_SKIPPED_PACKETS), demuxed, strict=False):
                number = self._number_by_key.get((packet.pts, packet.dts, packet.size), -1)
                if number == key_packet:
                    self._demuxed, self.next_packet = chain([packet], demuxed), key_packet
                    self._first_packet = key_packet
                    self.failed = []
                    return True
                if number > key_packet:
                    return False
        except av.FFmpegError:
            pass
        return False

    def frames(self) -> "Iterator[tuple[int, av.VideoFrame]]":
        """Yield the frames from here on, each with the number of its packet, -1 if the decoder does not tell it.

        A packet that is damaged may have no frame.
        """
        import av

        context = self._stream.codec_context
        while True:
            try:
                packet = next(self._demuxed, None)
            except av.FFmpegError:  # the file ends within a packet
                packet = None
            if packet is not None:
                packet.opaque = self.next_packet
                self.next_packet += 1
            try:
                decoded = context.decode(packet)
            except EOFError:
                return
            except av.FFmpegError:
                self.failed.append(self.next_packet - 1)
                decoded = []
            for frame in decoded:
                # Concealed damage. After seeking, frames that need earlier ones may be marked too.
                if frame.is_corrupt and not self._first_packet:
                    self.failed.append(self.next_packet - 1 if frame.opaque is None else frame.opaque)
                # A frame that is shown again has the packet of its first time. It has the time of its own.
                yield self._number_by_time.get(frame.pts, -1 if frame.opaque is None else frame.opaque), frame
            if packet is None:
                return

    def close(self) -> None:
        self._container.close()
