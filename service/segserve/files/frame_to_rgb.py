"""Make RGB of a decoded frame, turned and mirrored as its display matrix asks: phones store videos on their side."""

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from segserve.types import UInt8

if TYPE_CHECKING:
    import av

# 9 int32 of the machine's byte order: a, b, u, c, d, v, x, y, w (libavutil/display.h).
_MATRIX = struct.Struct("=9i")


class Orientation:
    """`Orientation` is one of the 8 ways to show a frame.

    (a, b): how far the shown x and y go for one step along a row of the stored frame. (c, d): down a column.
    """

    def __init__(self, a: int, b: int, c: int, d: int) -> None:
        self._a, self._b, self._c, self._d = a, b, c, d

    @classmethod
    def parse(cls, matrix: bytes) -> "Orientation":
        """Return the orientation that is nearest to a display matrix. Scale and shift are ignored."""
        if len(matrix) != _MATRIX.size:
            return UPRIGHT
        a, b, _, c, d, *_ = _MATRIX.unpack(matrix)
        if abs(a) >= abs(b) and abs(d) >= abs(c):
            return cls(-1 if a < 0 else 1, 0, 0, -1 if d < 0 else 1)
        return cls(0, -1 if b < 0 else 1, -1 if c < 0 else 1, 0)

    def apply(self, values: UInt8) -> UInt8:
        """Return [H, W, 3] as shown, contiguous."""
        if self._a == 0:  # rows become columns
            values = values.transpose(1, 0, 2)
        if min(self._a, self._c) < 0:
            values = values[:, ::-1]
        if min(self._b, self._d) < 0:
            values = values[::-1]
        return np.ascontiguousarray(values)


UPRIGHT = Orientation(1, 0, 0, 1)


def to_rgb(frame: "av.VideoFrame") -> UInt8:
    """Return RGB [H, W, 3] of a frame, as ffmpeg shows it."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    orientation = UPRIGHT if matrix is None else Orientation.parse(bytes(matrix))
    if frame.interlaced_frame:
        frame = without_fields(frame)
    return orientation.apply(frame.to_ndarray(format="rgb24", interpolation="BICUBIC", threads=1))


def without_fields(frame: "av.VideoFrame") -> "av.VideoFrame":
    """Return the frame as a progressive one.

    Of an interlaced one libswscale makes RGB field by field. ffmpeg does not ask it to: most such frames show one
    moment, and colours would bleed by two lines.
    """
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
    )
    progressive, sink = graph.add("setfield", "prog"), graph.add("buffersink")
    source.link_to(progressive)
    progressive.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()
