"""Which regions of an image are searched, and at which scale.

An object must be some cells of the embedding large, or the cells show little of it. So an image with much smaller
objects is searched in tiles that enlarge them. A large image, which is kept in tiles, is searched in tiles in any case.
"""

from dataclasses import dataclass

from segserve.automatic.stitch_tiles import check_tile_count
from segserve.encode.embeddings import ImageExtent
from segserve.images.tiling import TileGrid, choose_window, make_tile_grid
from segserve.masks import crop as crops
from segserve.models.manifest import PromptableManifest
from segserve.types import Box, Crop, Region

# An object whose diameter is less than this many cells of the embedding is enlarged, to twice as many.
MIN_OBJECT_CELLS = 1.5
# The outer part of a tile is this many times as large as its inner part.
OUTER_SCALE = 1.5


@dataclass(frozen=True)
class SearchPart:
    """A part of the image. inner: objects whose middle is here belong to it. outer: what is encoded; None is all."""

    inner: Region
    outer: Region | None


def plan_regions(
    extent: ImageExtent, manifest: PromptableManifest, diameter: float, *, max_tiles: int | None
) -> list[SearchPart]:
    """Return the parts of an image to search, row by row.

    diameter: of the objects, in pixels of the image. max_tiles: of an image; None is no limit. An image that is not
    tiled is searched in as many as that, if more are wanted.

    Raises TooManyTiles for a tiled image.
    """
    grid = choose_grid(extent, manifest, diameter)
    if grid is None:
        return [SearchPart(Region(0, 0, extent.size.width, extent.size.height), None)]
    if extent.tiled:
        input_size = manifest.preprocess.input_size
        check_tile_count(make_tile_grid(extent.size, input_size), max_tiles, input_size)
    while not extent.tiled and max_tiles is not None and len(grid) > max_tiles:
        grid = TileGrid(grid.size, grid.edge * 5 // 4 + 1, grid.halo * 5 // 4 + 1)
    return [SearchPart(tile.inner, tile.outer) for tile in grid]


def choose_grid(extent: ImageExtent, manifest: PromptableManifest, diameter: float) -> TileGrid | None:
    """Return the tiles for objects of this diameter; None for the image in one piece. As `plan_regions`."""
    size, longest = extent.size, max(extent.size.height, extent.size.width)
    input_size = manifest.preprocess.input_size
    if extent.tiled:
        scale = 1
        while scale * input_size // 4 < diameter and scale * input_size < longest:
            scale *= 2  # until the halo holds an object on the seam
        return make_tile_grid(size, input_size, scale)
    cells = manifest.dims.embedding[-1]
    if diameter * cells >= MIN_OBJECT_CELLS * longest:
        return None
    outer = diameter * cells / (2 * MIN_OBJECT_CELLS)
    edge = max(1, round(outer / OUTER_SCALE))
    return TileGrid(size, edge, max(1, edge // 4))


def choose_region(
    extent: ImageExtent, manifest: PromptableManifest, diameter: float, mask: Crop
) -> Region | None:
    """Return the region to describe an example on, at the scale at which images are searched; None is all."""
    grid = choose_grid(extent, manifest, diameter)
    if grid is None:
        return None
    x0, y0, x1, y1 = crops.bounding_box(mask)
    return choose_window(extent.size, grid.edge, Box(x0, y0, x1, y1))
