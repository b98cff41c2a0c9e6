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

from segserve.images.image_source import ImageSource
from segserve.images.normalise import is_8_bit_already, stretch
from segserve.images.read_image import average_two_channels, select_channels
from segserve.images.streaming_percentiles import find_value_ranges
from segserve.types import ReadOptions, Size, UInt8

TILE_SIDE_PX = 1024
# (level, row, column, the tile's bytes)
WriteTile = Callable[[int, int, int, bytes], None]


def write_pyramid(source: ImageSource, options: ReadOptions, put: WriteTile) -> tuple[int, int]:
    """Cut an image into tiles, which go to `put` as they are made. The pixels are those of `read.read_image`
    before they are turned. Answers (channels, levels). Raises BadInput as that does."""

    def bands() -> Iterable[NDArray[Any]]:
        read = source.bands or (lambda: iter([source.read()]))
        return (select_channels(band.values, band.has_alpha, options.channels) for band in read())

    first = next(iter(bands()))
    how = options.normalise
    limits = None if is_8_bit_already(first.dtype, how) else find_value_ranges(bands, how)
    channels = 3 if first.shape[2] == 3 else 1
    del first
    bottom = _PyramidLevel(0, source.size, channels, put)
    for band in bands():
        bottom.add(average_two_channels(band if limits is None else stretch(band, limits)))
    return channels, count_levels(source.size)


def count_levels(size: Size) -> int:
    """How many there are: the last one's longer side is at most two tiles."""
    return 1 if max(size.height, size.width) <= 2 * TILE_SIDE_PX else 1 + count_levels(half_size(size))


def half_size(size: Size) -> Size:
    return Size(ceil(size.height / 2), ceil(size.width / 2))


class _PyramidLevel:
    """Gathers rows until they make a row of tiles."""

    def __init__(self, number: int, size: Size, channels: int, put: WriteTile) -> None:
        self._number, self._size, self._put = number, size, put
        self._rows = np.empty((min(TILE_SIDE_PX, size.height), size.width, channels), np.uint8)
        self._filled, self._done = 0, 0
        self._above = (
            None if count_levels(size) == 1 else _PyramidLevel(number + 1, half_size(size), channels, put)
        )

    def add(self, rows: UInt8) -> None:
        while len(rows):
            part = rows[: len(self._rows) - self._filled]
            self._rows[self._filled : self._filled + len(part)] = part
            self._filled, rows = self._filled + len(part), rows[len(part) :]
            if self._filled == len(self._rows) or self._done + self._filled == self._size.height:
                self._flush(self._rows[: self._filled])

    def _flush(self, rows: UInt8) -> None:
        for column in range(ceil(self._size.width / TILE_SIDE_PX)):
            tile = rows[:, column * TILE_SIDE_PX : (column + 1) * TILE_SIDE_PX]
            self._put(self._number, self._done // TILE_SIDE_PX, column, encode_tile(tile))
        self._done, self._filled = self._done + len(rows), 0
        if self._above is not None:
            self._above.add(halve_pixels(rows))


def halve_pixels(rows: UInt8) -> UInt8:
    """[h, W, C] to [ceil(h / 2), ceil(W / 2), C]: rounded means of 2 x 2, of what is left at the edges."""
    rows = np.pad(rows, ((0, len(rows) % 2), (0, rows.shape[1] % 2), (0, 0)), "edge")
    total = rows[::2].astype(np.uint16) + rows[1::2]
    total = total[:, ::2] + total[:, 1::2]
    means: UInt8 = ((total + 2) >> 2).astype(np.uint8)
    return means


def encode_tile(tile: UInt8) -> bytes:
    differences = np.diff(tile, axis=1, prepend=np.uint8(0))
    return bytes(imagecodecs.zstd_encode(differences.tobytes(), level=1))


def decode_tile(data: bytes, height: int, width: int, channels: int) -> UInt8:
    """[height, width, channels]. Raises what a damaged object makes the codec raise."""
    samples = imagecodecs.zstd_decode(data, out=height * width * channels)
    differences = np.frombuffer(samples, np.uint8).reshape(height, width, channels)
    return np.cumsum(differences, axis=1, dtype=np.uint8)
