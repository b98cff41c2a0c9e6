"""A large image as it is kept for reading any part of it: small tiles, at full size and at halves of it.

    tenant/images/ID/tiles/SET/LEVEL/ROW_COLUMN

Level 0 has the image's pixels, each next one the means of 2 x 2 of the one before, until it is small. A tile is
EDGE pixels a side, less at the right and the bottom; its samples, 8-bit grey or RGB, as differences to the pixel
on the left, packed with zstd: a tenth of the time of PNG, and smaller. What an image's file says of how it is to be
turned is applied when a part is read.
"""

from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import Source
from segserve.images.normalise import is_kept, stretch
from segserve.images.read_image import blend, choose
from segserve.images.streaming_percentiles import find_limits
from segserve.types import ReadOptions, Size, UInt8

EDGE = 1024
# (level, row, column, the tile's bytes)
Put = Callable[[int, int, int, bytes], None]


def write(source: Source, options: ReadOptions, put: Put) -> tuple[int, int]:
    """Cut an image into tiles, which go to `put` as they are made. The pixels are those of `read.read_image`
    before they are turned. Answers (channels, levels). Raises BadInput as that does."""

    def bands() -> Iterable[NDArray[Any]]:
        read = source.bands or (lambda: iter([source.read()]))
        return (choose(band.values, band.has_alpha, options.channels) for band in read())

    first = next(iter(bands()))
    how = options.normalise
    limits = None if is_kept(first.dtype, how) else find_limits(bands, how)
    channels = 3 if first.shape[2] == 3 else 1
    del first
    bottom = _Level(0, source.size, channels, put)
    for band in bands():
        bottom.add(blend(band if limits is None else stretch(band, limits)))
    return channels, levels(source.size)


def levels(size: Size) -> int:
    """How many there are: the last one's longer side is at most two tiles."""
    return 1 if max(size.height, size.width) <= 2 * EDGE else 1 + levels(halved(size))


def halved(size: Size) -> Size:
    return Size(ceil(size.height / 2), ceil(size.width / 2))


class _Level:
    """Gathers rows until they make a row of tiles."""

    def __init__(self, number: int, size: Size, channels: int, put: Put) -> None:
        self._number, self._size, self._put = number, size, put
        self._rows = np.empty((min(EDGE, size.height), size.width, channels), np.uint8)
        self._filled, self._done = 0, 0
        self._above = None if levels(size) == 1 else _Level(number + 1, halved(size), channels, put)

    def add(self, rows: UInt8) -> None:
        while len(rows):
            part = rows[: len(self._rows) - self._filled]
            self._rows[self._filled : self._filled + len(part)] = part
            self._filled, rows = self._filled + len(part), rows[len(part) :]
            if self._filled == len(self._rows) or self._done + self._filled == self._size.height:
                self._flush(self._rows[: self._filled])

    def _flush(self, rows: UInt8) -> None:
        for column in range(ceil(self._size.width / EDGE)):
            tile = rows[:, column * EDGE : (column + 1) * EDGE]
            self._put(self._number, self._done // EDGE, column, encode(tile))
        self._done, self._filled = self._done + len(rows), 0
        if self._above is not None:
            self._above.add(reduced(rows))


def reduced(rows: UInt8) -> UInt8:
    """[h, W, C] to [ceil(h / 2), ceil(W / 2), C]: rounded means of 2 x 2, of what is left at the edges."""
    rows = np.pad(rows, ((0, len(rows) % 2), (0, rows.shape[1] % 2), (0, 0)), "edge")
    total = rows[::2].astype(np.uint16) + rows[1::2]
    total = total[:, ::2] + total[:, 1::2]
    means: UInt8 = ((total + 2) >> 2).astype(np.uint8)
    return means


def encode(tile: UInt8) -> bytes:
    differences = np.diff(tile, axis=1, prepend=np.uint8(0))
    return bytes(imagecodecs.zstd_encode(differences.tobytes(), level=1))


def decode(data: bytes, height: int, width: int, channels: int) -> UInt8:
    """[height, width, channels]. Raises what a damaged object makes the codec raise."""
    samples = imagecodecs.zstd_decode(data, out=height * width * channels)
    differences = np.frombuffer(samples, np.uint8).reshape(height, width, channels)
    return np.cumsum(differences, axis=1, dtype=np.uint8)
