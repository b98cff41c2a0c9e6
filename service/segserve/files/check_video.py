"""Check, while a video is uploaded, that the decoder delivers the frames that its packets promise.

Short videos are decoded whole. Of long ones the beginning, the end and some places between them are decoded, if all
packets look whole: to decode a minute of 1080p takes some 10 s of a CPU.
"""

from collections.abc import Sequence

import numpy as np

from segserve.errors import BadInput
from segserve.files.video_decoder import VideoDecoder
from segserve.files.video_packets import FrameOrder, Packets
from segserve.types import Size

# Pixels that are decoded for the check: 200 frames of 1080p, which take about a second of a CPU.
MAX_CHECKED_PIXELS = 400_000_000
# Places of a long video between its beginning and its end.
CHECKED_PLACES = 6
# Ranges of damaged or missing frames that are told.
MAX_RANGES = 3
# Frames of a steady video are as far from each other as most are, but for a tenth. Between two of them that are this
# much farther apart others are missing.
MIN_STEADY_SHARE = 0.9
MAX_JITTER = 0.1
MIN_GAP = 2.5
# Share of the time that a header states which frames take up, at least: the last one is shown for a while.
MIN_SHARE_WITH_FRAMES = 0.75


def check_frame_size(index: int, size: Size, first_size: Size) -> None:
    """Raise BadInput where a frame is not as large as the first one."""
    if size != first_size:
        raise BadInput(
            f"Frame {index} is {size.width} x {size.height}, the first one {first_size.width} x"
            f" {first_size.height}.",
            field="file",
            remedy="Send frames of one size: ffmpeg's -vf scale makes them so.",
        )


def has_expected_frames(decoder: VideoDecoder, packets: Packets, order: FrameOrder) -> bool:
    """Return whether the decoder delivers the frames of `order`. Raises BadInput where they differ in size."""
    if packets.damaged:
        return False
    max_frames = max(1, MAX_CHECKED_PIXELS // decoder.frame_pixels)
    decoder.restart()
    if len(order) <= max_frames:
        return delivers(decoder, order, 0, len(order) + 1)
    frames_a_place = max(1, max_frames // (CHECKED_PLACES + 2))
    if not delivers(decoder, order, 0, frames_a_place):
        return False
    starts = [packet for packet in packets.key_packets[1:] if order.index_of(packet) is not None]
    chosen = {starts[at * (len(starts) - 1) // CHECKED_PLACES] for at in range(CHECKED_PLACES) if starts}
    for start in sorted(chosen):
        decoder.seek(start)
        if not delivers(decoder, order, start, frames_a_place):
            return False
    if starts:
        decoder.seek(starts[-1])
        return delivers(decoder, order, starts[-1], max_frames)
    return True


def delivers(decoder: VideoDecoder, order: FrameOrder, start: int, max_frames: int) -> bool:
    """Decode up to `max_frames`, and return whether they are those of `order` from packet `start` on."""
    first_index = order.index_of(start) or 0
    first_size: Size | None = None
    index, is_end = first_index, True
    for packet, frame in decoder.frames():
        size = Size(frame.height, frame.width)
        first_size = first_size or size
        check_frame_size(index, size, first_size)
        if index == first_index and (order.index_of(packet) or 0) < first_index:
            continue  # decoded after the key packet and shown before it
        if index >= len(order) or order.ordered[index] != packet:
            return False
        index += 1
        if index - first_index == max_frames:
            is_end = False
            break
    return not decoder.failed and (index == len(order) or not is_end)


def describe_damage(packets: Packets, order: FrameOrder, failed: Sequence[int]) -> list[str]:
    """Return a sentence about the frames that are damaged or missing.

    failed: packets that could not be decoded. Raises BadInput where more than half are damaged.
    """
    # A recording may begin between key packets.
    begin = min((packet for packet in order.ordered if packet >= 0), default=0)
    damaged = sorted({packet for packet in (*packets.damaged, *failed) if packet >= begin})
    if not damaged:
        return []
    if 2 * len(damaged) > len(packets.keys):
        raise BadInput(
            f"{len(damaged)} of the video's {len(packets.keys)} packets are damaged.",
            field="file",
            remedy="Is it complete? Send it again.",
        )
    ranges = [packets.find_dependent_frames(packet, order) for packet in damaged]
    return [
        f"The file is damaged: {name_ranges(merge_ranges(ranges))} may be wrong, others near may be missing."
    ]


def describe_gaps(packets: Packets, order: FrameOrder, seconds_per_tick: float) -> list[str]:
    """Return a sentence about the times at which frames are missing, where all others are evenly spaced."""
    times = np.array(
        [pts for at in order.ordered if at >= 0 and (pts := packets.keys[at][0]) is not None], np.int64
    )
    if len(times) < len(order) or len(times) < 3:
        return []
    intervals = np.diff(times)
    typical = float(np.median(intervals))
    is_steady = np.abs(intervals - typical) <= max(1.0, MAX_JITTER * typical)
    gaps = np.nonzero(intervals > max(2.0, MIN_GAP * typical))[0]
    if not len(gaps) or is_steady.mean() < MIN_STEADY_SHARE:
        return []
    seconds = (times - times[0]) * seconds_per_tick
    named = ", ".join(f"{seconds[at]:.2f} and {seconds[at + 1]:.2f} s" for at in gaps[:MAX_RANGES])
    return [
        f"No frames between {named}{' and elsewhere' if len(gaps) > MAX_RANGES else ''}: others are evenly spaced."
    ]


def describe_early_end(
    packets: Packets, order: FrameOrder, stated_seconds: float, seconds_per_tick: float
) -> list[str]:
    """Return a sentence where frames end long before the end that the file states. stated_seconds: 0 if it does not."""
    times = [pts for at in order.ordered if at >= 0 and (pts := packets.keys[at][0]) is not None]
    if len(times) < 2:
        return []
    seconds = (max(times) - min(times)) * seconds_per_tick * len(times) / (len(times) - 1)
    if seconds >= MIN_SHARE_WITH_FRAMES * stated_seconds:
        return []
    return [f"The frames are of {seconds:.2f} s, and the file's header states {stated_seconds:.2f} s."]


def describe_missing_frames(packets: Packets, stated: int) -> list[str]:
    """Return a sentence where a file has fewer frames than its header states. stated: 0 if it does not."""
    if len(packets.keys) >= stated:
        return []
    return [f"The file's header states {stated} frames, and {len(packets.keys)} are there."]


def merge_ranges(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the (first, last) of all ranges, ascending, with those that touch made one."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def name_ranges(ranges: Sequence[tuple[int, int]]) -> str:
    """Return "frames 3, 20 to 31 and more"."""
    named = ", ".join(
        f"{first} to {last}" if first < last else str(first) for first, last in ranges[:MAX_RANGES]
    )
    return f"frames {named}{' and more' if len(ranges) > MAX_RANGES else ''}"
