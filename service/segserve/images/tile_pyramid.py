"""The stored form of a large image: a pyramid of small tiles, at full size and at halves of it.

    tenant/images/ID/tiles/SET/LEVEL/ROW_COLUMN

Level 0 has the image's pixels. Each next level has the means of 2 x 2 pixels of the one before, until it is small.
A tile is TILE_SIDE_PX pixels a side, less at the right and the bottom. Its samples, 8-bit grey or RGB, are stored as
differences to the pixel on the left and compressed with zstd: that takes a tenth of the time of PNG and fewer bytes.
Tiles hold the pixels as stored in the file; the orientation is applied when a region is read.
"""

from collections.abc import Callable, Iterable, Iterator
from math import ceil
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from segserve.images.image_source import ImageSource, RawPixels
from segserve.images.no_data import no_data_to_nan
from segserve.images.normalise import JOINT_MODES, is_8_bit_already, stretch
from segserve.images.read_image import average_two_channels, select_channels
from segserve.images.stains import convert_colours
from segserve.images.streaming_percentiles import find_value_ranges
from segserve.types import ReadOptions, Size, UInt8

TILE_SIDE_PX = 1024

# Called with (level, row, column, the tile's bytes).
WriteTile = Callable[[int, int, int, bytes], None]


def write_pyramid(source: ImageSource, options: ReadOptions, write_tile: WriteTile) -> tuple[int, int]:
    """Cut an image into tiles and return (channels, levels).

    The pixels are those of `read_image.read_image` before the orientation is applied.
    write_tile: called with each tile as soon as it is complete.
    Raises BadInput as `read_image` does.
    """

    read = source.bands or _split_into_bands(source)

    mode, no_data = options.normalise, None if options.normalise in JOINT_MODES else source.no_data

    def read_bands() -> Iterable[NDArray[Any]]:
        selected = (select_channels(band.values, band.has_alpha, options.channels) for band in read())
        return selected if no_data is None else (no_data_to_nan(values, no_data) for values in selected)

    first = next(iter(read_bands()))
    ranges = None if is_8_bit_already(first.dtype, mode) else find_value_ranges(read_bands, mode)
    channels = 3 if first.shape[2] == 3 and options.stain is None else 1
    del first
    bottom = _PyramidLevel(0, source.size, channels, write_tile)
    for band in read_bands():
        averaged = average_two_channels(band if ranges is None else stretch(band, ranges))
        bottom.add(convert_colours(averaged, options))
    return channels, count_levels(source.size)


def _split_into_bands(source: ImageSource) -> Callable[[], Iterator[RawPixels]]:
    """Return what `ImageSource.bands` would be, for an image that can only be read at once: it is decoded once."""
    pixels, rows = source.read(), source.memory.band_rows
    return lambda: (
        RawPixels(pixels.values[top : top + rows], pixels.has_alpha, pixels.orientation)
        for top in range(0, source.size.height, rows)
    )


def count_levels(size: Size) -> int:
    """Return the number of levels. The last level's longer side is at most two tiles."""
    return 1 if max(size.height, size.width) <= 2 * TILE_SIDE_PX else 1 + count_levels(half_size(size))


def half_size(size: Size) -> Size:
    """Return the size of the next level, rounded up."""
    return Size(ceil(size.height / 2), ceil(size.width / 2))


class _PyramidLevel:
    """`_PyramidLevel` collects rows until they fill a row of tiles, and passes them on to the next level."""

    def __init__(self, number: int, size: Size, channels: int, write_tile: WriteTile) -> None:
        self._number, self._size, self._write_tile = number, size, write_tile
        self._rows = np.empty((min(TILE_SIDE_PX, size.height), size.width, channels), np.uint8)
        self._filled, self._written = 0, 0
        is_last = count_levels(size) == 1
        self._next = None if is_last else _PyramidLevel(number + 1, half_size(size), channels, write_tile)

    def add(self, rows: UInt8) -> None:
        while len(rows):
            part = rows[: len(self._rows) - self._filled]
            self._rows[self._filled : self._filled + len(part)] = part
            self._filled, rows = self._filled + len(part), rows[len(part) :]
            if self._filled == len(self._rows) or self._written + self._filled == self._size.height:
                self._flush(self._rows[: self._filled])

    def _flush(self, rows: UInt8) -> None:
        for column in range(ceil(self._size.width / TILE_SIDE_PX)):
            tile = rows[:, column * TILE_SIDE_PX : (column + 1) * TILE_SIDE_PX]
            self._write_tile(self._number, self._written // TILE_SIDE_PX, column, encode_tile(tile))
        self._written, self._filled = self._written + len(rows), 0
        if self._next is not None:
            self._next.add(halve_pixels(rows))


def halve_pixels(rows: UInt8) -> UInt8:
    """Return [ceil(h / 2), ceil(W / 2), C] of [h, W, C]: rounded means of 2 x 2 pixels, of fewer at the edges."""
    rows = np.pad(rows, ((0, len(rows) % 2), (0, rows.shape[1] % 2), (0, 0)), "edge")
    total = rows[::2].astype(np.uint16) + rows[1::2]
    total = total[:, ::2] + total[:, 1::2]
    means: UInt8 = ((total + 2) >> 2).astype(np.uint8)
    return means


def encode_tile(tile: UInt8) -> bytes:
    """Compress the pixels [height, width, channels] of a tile."""
    differences = np.diff(tile, axis=1, prepend=np.uint8(0))
    return bytes(imagecodecs.zstd_encode(differences.tobytes(), level=1))


def decode_tile(data: bytes, height: int, width: int, channels: int) -> UInt8:
    """Return the pixels [height, width, channels] of a tile. Raises whatever the codec raises for damaged data."""
    samples = imagecodecs.zstd_decode(data, out=height * width * channels)
    differences = np.frombuffer(samples, np.uint8).reshape(height, width, channels)
    return np.cumsum(differences, axis=1, dtype=np.uint8)
