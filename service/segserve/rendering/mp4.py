"""Frames as an mp4 that browsers play while it is still being made."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import numpy as np

from segserve.errors import MissingDependency
from segserve.types import Size, UInt8

DEFAULT_FPS = 10.0
MIN_FPS = Fraction(1, 1001)  # that `limit_denominator` below can tell from 0
MAX_SIDE_PX = 1920  # pixels of the longer side: hardware decoders take it
# Each part can be played once it is there, and nothing is written to twice (ISO/IEC 14496-12, movie fragments).
FRAGMENTED_MP4 = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
CODECS = {
    "libx264": {"preset": "veryfast", "crf": "20", "rc-lookahead": "10"},
    "mpeg4": {"q": "4"},  # FFmpeg may be built without x264
}
KEYFRAME_INTERVAL = 30  # frames: a part


class PartBuffer:
    """A file to write to, of which only what is new is kept."""

    def __init__(self) -> None:
        self._new: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._new.append(bytes(part))
        return len(part)

    def take(self) -> bytes:
        taken = b"".join(self._new)
        self._new.clear()
        return taken


def encode_mp4(frames: Iterator[UInt8], fps: float | None) -> Iterator[bytes]:
    """H.264, or MPEG-4 where there is no encoder for it. frames: RGB [H, W, 3], all of one size, at least one. A part
    for each frame, empty but for every few; memory holds some tens of frames however many there are. Larger frames
    are scaled down to LONGEST. Raises MissingDependency."""
    try:
        import av
    except ImportError:
        raise MissingDependency("PyAV", "video", "Making a video") from None
    out, codec = PartBuffer(), next(name for name in CODECS if name in av.codecs_available)
    first = next(frames)
    shown = fit_size(Size(*first.shape[:2]))
    with av.open(out, "w", format="mp4", options=FRAGMENTED_MP4) as container:
        stream = container.add_stream(codec, rate=frame_rate(fps), options=CODECS[codec])
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_INTERVAL
        stream.codec_context.thread_count = 1  # several clips at once, and clicks, need the other cores
        for values in chain([first], frames):
            # Its colours are BT.601's, as swscale makes them.
            picture = av.VideoFrame.from_ndarray(pad_to_even(values), format="rgb24")
            container.mux(
                stream.encode(picture.reformat(shown.width, shown.height, "yuv420p", dst_colorspace="ITU601"))
            )
            yield out.take()
        container.mux(stream.encode())
    yield out.take()


def frame_rate(fps: float | None) -> Fraction:
    return max(Fraction(fps or DEFAULT_FPS).limit_denominator(1001), MIN_FPS)


def fit_size(size: Size) -> Size:
    """Even, as 4:2:0 needs it, and not over LONGEST."""
    scale = min(1.0, MAX_SIDE_PX / max(size.height, size.width))

    def edge(length: int) -> int:
        return max(2, 2 * round(scale * (length + length % 2) / 2))

    return Size(edge(size.height), edge(size.width))


def pad_to_even(values: UInt8) -> UInt8:
    """With the last row and column once more where their number is odd."""
    height, width = values.shape[:2]
    if height % 2 or width % 2:
        return np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(values)
