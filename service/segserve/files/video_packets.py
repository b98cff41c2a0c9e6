"""The packets of a video, and what they tell about its frames without decoding them.

A packet is not yet a frame. Edit lists have packets that are decoded and never shown; AVI has no times of frames that
are shown out of order; interlaced H.264 may have two packets a frame. So packets are believed only where they are
ordinary, and `check_video.py` compares even those with what the decoder delivers.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from segserve.errors import TooLarge

if TYPE_CHECKING:
    import av

MAX_FRAMES = 1_000_000
# A lost block of a disk is read as zeros. These codecs never write so many; others fill packets up with them.
LOST_BLOCK = bytes(512)
CODECS_WITHOUT_ZEROS = {"h264", "hevc", "vp8", "vp9", "av1", "libdav1d"}
# The bit that no NAL unit has set, and the types of units (ISO/IEC 14496-10, 7.3.1 and table 7-1).
FORBIDDEN_NAL_BIT = 0x80
H264_TYPE_BITS = 0x1F
H264_IDR = 5

# What tells a packet from others: (pts, dts, size).
PacketKey = tuple[int | None, int | None, int]


class FrameOrder:
    """`FrameOrder` says which packet each frame comes from. ordered: the packet's number for each frame."""

    def __init__(self, ordered: Iterable[int] = ()) -> None:
        self.ordered: list[int] = []
        self._indices: dict[int, int] = {}
        for packet in ordered:
            self.append(packet)

    def __len__(self) -> int:
        return len(self.ordered)

    def append(self, packet: int) -> None:
        self._indices.setdefault(packet, len(self.ordered))
        self.ordered.append(packet)

    def index_of(self, packet: int) -> int | None:
        """Return the first frame that comes from a packet; None if none does."""
        return self._indices.get(packet)


@dataclass
class Packets:
    """The packets of one stream in the order in which they are decoded, numbered from 0.

    key_packets: packets from which decoding can start, ascending.
    recovery_packets: those of them after which frames may still be wrong for a while: H.264's recovery points.
    hidden: packets that are decoded and not shown.
    damaged: packets whose bytes cannot be right.
    """

    keys: list[PacketKey] = field(default_factory=list)
    key_packets: list[int] = field(default_factory=list)
    recovery_packets: set[int] = field(default_factory=set)
    hidden: set[int] = field(default_factory=set)
    damaged: list[int] = field(default_factory=list)

    def order_by_time(self) -> FrameOrder | None:
        """Return the frames in the order of their times, one a packet; None where packets do not tell them."""
        times = {
            pts: number
            for number, (pts, _, _) in enumerate(self.keys)
            if number not in self.hidden and pts is not None
        }
        is_ordinary = len(times) == len(self.keys) - len(self.hidden) and self.key_packets[:1] == [0]
        return FrameOrder(times[pts] for pts in sorted(times)) if is_ordinary else None

    def number_by_key(self) -> dict[PacketKey, int]:
        """Return the numbers of the packets that can be told from all others."""
        counts = Counter(self.keys)
        return {key: number for number, key in enumerate(self.keys) if counts[key] == 1}

    def number_by_time(self) -> dict[int | None, int]:
        """Return the numbers of the packets by the times of their frames, where no two have one time."""
        counts = Counter(pts for pts, _, _ in self.keys)
        return {
            pts: number
            for number, (pts, _, _) in enumerate(self.keys)
            if pts is not None and counts[pts] == 1
        }

    def start_of(self, index: int, order: FrameOrder) -> int:
        """Return the last key packet from which frame `index` of `order` is decoded right; 0: the first packet."""
        packet = order.ordered[index]
        # Frames that are shown before a key packet and decoded after it may need packets before it.
        starts = (
            self.key_packets[at]
            for at in range(bisect_right(self.key_packets, packet) - 1, -1, -1)
            if not self._is_shown_before(packet, index, self.key_packets[at], order)
        )
        start = next(starts, 0)
        return next(starts, 0) if start in self.recovery_packets else start

    def find_dependent_frames(self, packet: int, order: FrameOrder) -> tuple[int, int]:
        """Return the first and last frame that may need a packet: those up to the next key packet."""
        after = bisect_right(self.key_packets, packet)
        end = self.key_packets[after] if after < len(self.key_packets) else len(self.keys)
        indices = [index for at in range(packet, end) if (index := order.index_of(at)) is not None]
        if not indices:  # none of them was decoded
            before = [index for at in range(packet) if (index := order.index_of(at)) is not None]
            return max(before, default=0), max(before, default=0)
        return min(indices), max(indices)

    def _is_shown_before(self, packet: int, index: int, key_packet: int, order: FrameOrder) -> bool:
        """Return whether frame `index`, which comes from `packet`, is shown before the frame of `key_packet`."""
        if (key_index := order.index_of(key_packet)) is not None:
            return index < key_index
        time, key_time = self.keys[packet][0], self.keys[key_packet][0]
        return time is None or key_time is None or time < key_time


def scan_packets(
    packets: "Iterable[av.Packet]", codec: str, extradata: bytes | None, scanned: Packets
) -> None:
    """Write to `scanned` what the packets of a stream tell. codec: FFmpeg's name. Raises TooLarge, av.FFmpegError."""
    nal_length_bytes = count_nal_length_bytes(codec, extradata)
    for number, packet in enumerate(packets):
        if number >= MAX_FRAMES:
            raise TooLarge(
                f"The video has over {MAX_FRAMES} frames.", field="file", remedy="Send it in parts."
            )
        data = bytes(packet)
        scanned.keys.append((packet.pts, packet.dts, packet.size))
        if packet.is_discard or (codec == "vp8" and not is_vp8_shown(data)):
            scanned.hidden.add(number)
        if packet.is_keyframe:
            scanned.key_packets.append(number)
            if codec == "h264" and not has_h264_idr(data, nal_length_bytes):
                scanned.recovery_packets.add(number)
        is_lost = codec in CODECS_WITHOUT_ZEROS and LOST_BLOCK in data
        if packet.is_corrupt or is_lost or (nal_length_bytes and not has_whole_nals(data, nal_length_bytes)):
            scanned.damaged.append(number)


def is_vp8_shown(data: bytes) -> bool:
    """Return whether a packet of VP8 has a frame that is shown (RFC 6386, 9.1): others are for reference only."""
    return bool(data[0] & 0x10)


def count_nal_length_bytes(codec: str, extradata: bytes | None) -> int:
    """Return how many bytes of length precede each NAL unit (ISO/IEC 14496-15); 0: start codes, or another codec."""
    if not extradata or extradata[0] != 1:
        return 0
    if codec == "h264" and len(extradata) > 4:
        return (extradata[4] & 3) + 1
    return (extradata[21] & 3) + 1 if codec == "hevc" and len(extradata) > 21 else 0


def has_whole_nals(data: bytes, length_bytes: int) -> bool:
    """Return whether a packet is a row of NAL units, each with its length before it."""
    position = 0
    while position < len(data):
        begin = position + length_bytes
        length = int.from_bytes(data[position:begin], "big")
        position = begin + length
        if not length or position > len(data) or data[begin] & FORBIDDEN_NAL_BIT:
            return False
    return True


def has_h264_idr(data: bytes, length_bytes: int) -> bool:
    """Return whether a packet has an IDR picture, after which nothing before it is needed."""
    if not length_bytes:
        starts = data.split(b"\0\0\1")[1:]
        return any(unit and unit[0] & H264_TYPE_BITS == H264_IDR for unit in starts)
    position = 0
    while position + length_bytes < len(data):
        begin = position + length_bytes
        if data[begin] & H264_TYPE_BITS == H264_IDR:
            return True
        position = begin + int.from_bytes(data[position:begin], "big")
    return False
