"""Large images are looked at in tiles with a halo, as micro-sam does, at as many scales as it takes.

A tile's inner part is a square of `edge` pixels, less at the right and the bottom; the inner parts cover the image
once. What is encoded is the outer part, with the halo around it. micro-sam recommends 1024 and 256 for SAM, which
sees 1024 pixels; here they are the model's input size and a quarter of it. At the image's edge micro-sam cuts the
halo off; here the outer part moves inwards instead, so that the model sees objects at one scale everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from segserve.types import Box, Region, Size


@dataclass(frozen=True)
class Tile:
    column: int
    row: int
    inner: Region
    outer: Region


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image, row by row; edge and halo in its pixels."""

    size: Size
    edge: int
    halo: int

    @property
    def columns(self) -> int:
        return ceil(self.size.width / self.edge)

    @property
    def rows(self) -> int:
        return ceil(self.size.height / self.edge)

    def __len__(self) -> int:
        return self.columns * self.rows

    def __iter__(self) -> Iterator[Tile]:
        return (self.tile(column, row) for row in range(self.rows) for column in range(self.columns))

    def tile(self, column: int, row: int) -> Tile:
        x, y = column * self.edge, row * self.edge
        return Tile(column, row, self._inner(x, y), self._outer(x, y))

    def at(self, x: float, y: float) -> Tile:
        """The tile whose inner part holds this point of the image; its far edges belong to the last ones."""
        column, row = int(x) // self.edge, int(y) // self.edge
        return self.tile(min(column, self.columns - 1), min(row, self.rows - 1))

    def _inner(self, x: int, y: int) -> Region:
        return Region(x, y, min(self.edge, self.size.width - x), min(self.edge, self.size.height - y))

    def around(self, x: float, y: float) -> Region:
        """Of the size of an outer part, with this point as near to its middle as steps of a halo allow: so that
        what is looked at again is likely to be cached."""
        step, half = self.halo, self.edge / 2
        return self._outer(*(round((at - half) / step) * step for at in (x, y)))

    def _outer(self, x: int, y: int) -> Region:
        side = self.edge + 2 * self.halo
        width, height = min(side, self.size.width), min(side, self.size.height)
        left = min(max(0, x - self.halo), self.size.width - width)
        top = min(max(0, y - self.halo), self.size.height - height)
        return Region(left, top, width, height)


def make_tile_grid(size: Size, input_size: int, scale: int = 1) -> TileGrid:
    """The tiles for a model that sees `input_size` pixels a side, each showing `scale` times as many."""
    return TileGrid(size, scale * input_size, scale * input_size // 4)


def choose_window(size: Size, input_size: int, asked: Box) -> Region:
    """Where to look for an object: with its halo the tile whose inner part holds the middle of `asked`, if that
    holds all of it; else a region of that size around the middle; else the same with tiles twice as large, and so
    on. What is too large for a tile is thus seen whole, though less sharply, where micro-sam would cut it off."""
    scale, middle = 1, ((asked.x0 + asked.x1) / 2, (asked.y0 + asked.y1) / 2)
    while True:
        tiles = make_tile_grid(size, input_size, scale)
        for found in (tiles.at(*middle).outer, tiles.around(*middle)):
            if len(tiles) == 1 or region_contains(found, asked):
                return found
        scale *= 2


def region_contains(region: Region, box: Box) -> bool:
    across = region.x <= box.x0 and box.x1 <= region.x + region.width
    return across and region.y <= box.y0 and box.y1 <= region.y + region.height
