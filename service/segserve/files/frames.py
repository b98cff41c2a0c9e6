"""Frames of videos and stacks as models see them, 8-bit RGB, read one by one and never kept."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.images.normalise import ValueRange, find_extremes, resolve_ranges, stretch
from segserve.images.read_image import to_rgb
from segserve.types import Normalise, Size, UInt8

# Frames, evenly spread, whose minimum and maximum decide how the values of all frames become 8-bit.
SAMPLED_FRAMES = 16


class Frames(Protocol):
    """`Frames` gives random access to 8-bit RGB frames of one size. Use it in one thread at a time."""

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> Size: ...

    def read(self, index: int) -> UInt8:
        """Return frame `index` from 0, RGB [H, W, 3]. Raises BadInput where it is damaged."""
        ...

    def close(self) -> None: ...


class RawFrames(Protocol):
    """`RawFrames` gives random access to frames as the file stores them."""

    @property
    def count(self) -> int: ...

    def values(self, index: int) -> NDArray[Any]:
        """Return frame `index` from 0, [H, W, 1 to 3], in the file's own dtype. Raises BadInput."""
        ...

    def close(self) -> None: ...


class NormalisedFrames:
    """`NormalisedFrames` brings frames of any dtype to 8 bits, all in the same way.

    So a frame that is brighter than the others stays brighter. 8-bit values are unchanged. Others are stretched from
    the minimum to the maximum of SAMPLED_FRAMES frames. It closes the `raw` frames.
    """

    def __init__(self, raw: RawFrames) -> None:
        self._raw, self.count = raw, raw.count
        self._ranges: list[ValueRange] | None = None
        try:
            first = raw.values(0)
            self.size = Size(*first.shape[:2])
            if first.dtype != np.uint8:
                self._ranges = self._find_ranges(first.shape[2])
        except BaseException:
            raw.close()
            raise

    def _find_ranges(self, channels: int) -> list[ValueRange]:
        indices = np.linspace(0, self.count - 1, min(self.count, SAMPLED_FRAMES)).round().astype(int)
        measured: list[ValueRange | None] = []
        for index in np.unique(indices):
            frame = self._raw.values(int(index))
            measured += [find_extremes(frame[:, :, channel]) for channel in range(frame.shape[2])]
        return resolve_ranges(measured, Normalise.NONE)[:channels]

    def read(self, index: int) -> UInt8:
        values = self._raw.values(index)
        if Size(*values.shape[:2]) != self.size:
            raise BadInput(
                f"Frame {index} is {values.shape[1]} x {values.shape[0]}, the first one {self.size.width} x"
                f" {self.size.height}.",
                field="file",
                remedy="Send frames of one size.",
            )
        return to_rgb(values if self._ranges is None else stretch(values, self._ranges))

    def close(self) -> None:
        self._raw.close()
