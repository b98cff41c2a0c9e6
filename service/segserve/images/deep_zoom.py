"""The tiles that viewers ask for: squares of an image at full size and at halves of it, as in Deep Zoom and IIIF.

Level 0 shows the whole image in one tile. Each next level has twice the pixels a side, and the last one is the image
itself. Viewers count so too: in OpenSeadragon it is a tile source with `minLevel` 0 and `maxLevel` levels - 1.
"""

from math import ceil

from segserve.types import Region, Size

TILE_SIDE_PX = 512


def count_levels(size: Size) -> int:
    """Return the number of levels of an image: 1 where it fits into one tile."""
    return 1 + (ceil(max(size.height, size.width) / TILE_SIDE_PX) - 1).bit_length()


def reduce_size(size: Size, halvings: int) -> Size:
    """Return the size of an image that is halved so often, each time rounded up."""
    factor = 1 << halvings
    return Size(ceil(size.height / factor), ceil(size.width / factor))


def count_tiles(size: Size) -> Size:
    """Return how many tiles a level of this size has: rows as height, columns as width."""
    return Size(ceil(size.height / TILE_SIDE_PX), ceil(size.width / TILE_SIDE_PX))


def tile_region(size: Size, column: int, row: int) -> Region:
    """Return the pixels that a tile shows, of a level of this size. It is smaller at the right and the bottom edge."""
    x, y = column * TILE_SIDE_PX, row * TILE_SIDE_PX
    return Region(x, y, min(TILE_SIDE_PX, size.width - x), min(TILE_SIDE_PX, size.height - y))
