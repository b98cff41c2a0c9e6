"""Tile a large image with halos, as micro-sam does, at the scale that shows an object whole.

A tile's inner part is a square of `edge` pixels, less at the right and the bottom; the inner parts cover the image
once. The outer part, with the halo around the inner part, is what is encoded. micro-sam recommends 1024 and 256 for
SAM, whose input is 1024 pixels; here they are the model's input size and a quarter of it. At the image's edge
micro-sam cuts the halo off. Here the outer part moves inwards instead, so that objects have one scale everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from segserve.types import Box, Region, Size


@dataclass(frozen=True)
class Tile:
    """`Tile` is one tile of a grid. inner: its own pixels. outer: the same with the halo."""

    column: int
    row: int
    inner: Region
    outer: Region


@dataclass(frozen=True)
class TileGrid:
    """`TileGrid` holds the tiles of an image, row by row.

    size: of the image.
    edge: side of a tile's inner part, in pixels of the image.
    halo: width of the rim around it, in pixels of the image.
    """

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
        return Tile(column, row, self._inner_region(x, y), self._outer_region(x, y))

    def tile_at(self, x: float, y: float) -> Tile:
        """Return the tile whose inner part holds this point of the image.

        A point on the image's far edges belongs to the last tile.
        """
        column, row = int(x) // self.edge, int(y) // self.edge
        return self.tile(min(column, self.columns - 1), min(row, self.rows - 1))

    def region_around(self, x: float, y: float) -> Region:
        """Return a region of the size of an outer part, with this point near its middle.

        Its position is rounded to steps of a halo, so that nearby points share a region, which is likely to be
        cached.
        """
        step, half = self.halo, self.edge / 2
        return self._outer_region(*(round((position - half) / step) * step for position in (x, y)))

    def _inner_region(self, x: int, y: int) -> Region:
        return Region(x, y, min(self.edge, self.size.width - x), min(self.edge, self.size.height - y))

    def _outer_region(self, x: int, y: int) -> Region:
        """Return the outer part of a tile whose inner part begins at (x, y), moved to lie on the image."""
        side = self.edge + 2 * self.halo
        width, height = min(side, self.size.width), min(side, self.size.height)
        left = min(max(0, x - self.halo), self.size.width - width)
        top = min(max(0, y - self.halo), self.size.height - height)
        return Region(left, top, width, height)


def make_tile_grid(size: Size, input_size: int, scale: int = 1) -> TileGrid:
    """Return the grid for a model with an input of `input_size` pixels a side, in tiles `scale` times as large."""
    return TileGrid(size, scale * input_size, scale * input_size // 4)


def choose_window(size: Size, input_size: int, bounds: Box) -> Region:
    """Return the region of the image to encode for an object within `bounds`.

    Candidates, in this order: the tile, with its halo, whose inner part holds the middle of `bounds`; a region of that
    size around the middle; the same two with tiles twice as large, and so on. The first that contains all of `bounds`
    is returned. So an object larger than a tile is seen whole at a lower resolution, where micro-sam would cut it.
    """
    scale, middle = 1, ((bounds.x0 + bounds.x1) / 2, (bounds.y0 + bounds.y1) / 2)
    while True:
        tiles = make_tile_grid(size, input_size, scale)
        for region in (tiles.tile_at(*middle).outer, tiles.region_around(*middle)):
            if len(tiles) == 1 or region_contains(region, bounds):
                return region
        scale *= 2


def region_contains(region: Region, box: Box) -> bool:
    """Return whether all of `box` lies in `region`."""
    across = region.x <= box.x0 and box.x1 <= region.x + region.width
    return across and region.y <= box.y0 and box.y1 <= region.y + region.height
