"""Frames as an MP4 video, which browsers play while it is still being made."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import numpy as np

from segserve.errors import MissingDependency
from segserve.types import Size, UInt8

# For files that have no frame rate.
DEFAULT_FPS = 10.0

# The lowest rate that `limit_denominator` in `frame_rate` keeps apart from 0.
MIN_FPS = Fraction(1, 1001)

# The longer side of the video: hardware decoders take this much.
MAX_SIDE_PX = 1920

# Each fragment can be played once it is there, and no byte is written twice (ISO/IEC 14496-12, movie fragments).
FRAGMENTED_MP4 = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}

# By preference. FFmpeg may be built without x264, but always has its own MPEG-4 encoder.
CODECS = {
    "libx264": {"preset": "veryfast", "crf": "20", "rc-lookahead": "10"},
    "mpeg4": {"q": "4"},
}

# Frames between two keyframes, which is one fragment.
KEYFRAME_INTERVAL = 30


class PartBuffer:
    """`PartBuffer` is a file to write to that keeps only what was written since the last `take`."""

    def __init__(self) -> None:
        self._new: list[bytes] = []

    def write(self, part: bytes) -> int:
        self._new.append(bytes(part))
        return len(part)

    def take(self) -> bytes:
        part = b"".join(self._new)
        self._new.clear()
        return part


def encode_mp4(frames: Iterator[UInt8], fps: float | None) -> Iterator[bytes]:
    """Encode frames as H.264, or as MPEG-4 if there is no encoder for it.

    frames: RGB [H, W, 3], all of one size, at least one. Frames larger than MAX_SIDE_PX are scaled down.
    fps: frames per second; None: DEFAULT_FPS.

    Yields a part for each frame; most are empty. Memory holds some tens of frames, however many there are.

    Raises MissingDependency.
    """
    try:
        import av
    except ImportError:
        raise MissingDependency("PyAV", "video", "Making a video") from None
    out, codec = PartBuffer(), next(name for name in CODECS if name in av.codecs_available)
    first = next(frames)
    video = fit_size(Size(*first.shape[:2]))
    with av.open(out, "w", format="mp4", options=FRAGMENTED_MP4) as container:
        stream = container.add_stream(codec, rate=frame_rate(fps), options=CODECS[codec])
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        stream.codec_context.gop_size = KEYFRAME_INTERVAL
        stream.codec_context.thread_count = 1  # other videos, and clicks, need the other cores
        for values in chain([first], frames):
            # The colours are BT.601's, as swscale makes them.
            picture = av.VideoFrame.from_ndarray(pad_to_even(values), format="rgb24")
            container.mux(
                stream.encode(picture.reformat(video.width, video.height, "yuv420p", dst_colorspace="ITU601"))
            )
            yield out.take()
        container.mux(stream.encode())
    yield out.take()


def frame_rate(fps: float | None) -> Fraction:
    """Return the rate as a fraction that FFmpeg takes."""
    return max(Fraction(fps or DEFAULT_FPS).limit_denominator(1001), MIN_FPS)


def fit_size(size: Size) -> Size:
    """Return the size of the video: even, as 4:2:0 subsampling needs it, and at most MAX_SIDE_PX."""
    scale = min(1.0, MAX_SIDE_PX / max(size.height, size.width))

    def scale_edge(length: int) -> int:
        return max(2, 2 * round(scale * (length + length % 2) / 2))

    return Size(scale_edge(size.height), scale_edge(size.width))


def pad_to_even(values: UInt8) -> UInt8:
    """Return the frame with its last row and column repeated if their number is odd."""
    height, width = values.shape[:2]
    if height % 2 or width % 2:
        return np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(values)
