"""Frames of videos and stacks, as models see them: read one by one and forgotten."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput
from segserve.images.normalise import ValueRange, find_extremes, resolve_ranges, stretch
from segserve.images.read_image import to_rgb
from segserve.types import Normalise, Size, UInt8

SAMPLED_FRAMES = 16  # frames that decide how values that are not 8-bit become so


class Frames(Protocol):
    """Used by one thread at a time."""

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> Size: ...

    def read(self, index: int) -> UInt8:
        """Frame `index` from 0, RGB [H, W, 3]. Raises BadInput where it is damaged."""
        ...

    def close(self) -> None: ...


class RawFrames(Protocol):
    """Frames as a file has them."""

    @property
    def count(self) -> int: ...

    def values(self, index: int) -> NDArray[Any]:
        """[H, W, 1 to 3] in the file's own type. Raises BadInput."""
        ...

    def close(self) -> None: ...


class NormalisedFrames:
    """Frames of any type, all brought to 8 bits alike: a frame that is brighter than the others stays so. 8-bit
    values stay; others are stretched from the least to the greatest of some frames, evenly spread. It closes what it
    is given."""

    def __init__(self, stored: RawFrames) -> None:
        self._stored, self.count = stored, stored.count
        self._limits: list[ValueRange] | None = None
        try:
            first = stored.values(0)
            self.size = Size(*first.shape[:2])
            if first.dtype != np.uint8:
                self._limits = self._settle(first.shape[2])
        except BaseException:
            stored.close()
            raise

    def _settle(self, channels: int) -> list[ValueRange]:
        sampled = np.unique(
            np.linspace(0, self.count - 1, min(self.count, SAMPLED_FRAMES)).round().astype(int)
        )
        found: list[ValueRange | None] = []
        for index in sampled:
            frame = self._stored.values(int(index))
            found += [find_extremes(frame[:, :, channel]) for channel in range(frame.shape[2])]
        return resolve_ranges(found, Normalise.NONE)[:channels]

    def read(self, index: int) -> UInt8:
        values = self._stored.values(index)
        if Size(*values.shape[:2]) != self.size:
            raise BadInput(
                f"Frame {index} is {values.shape[1]} x {values.shape[0]}, the first one {self.size.width} x"
                f" {self.size.height}.",
                field="file",
                remedy="Send frames of one size.",
            )
        return to_rgb(values if self._limits is None else stretch(values, self._limits))

    def close(self) -> None:
        self._stored.close()
