"""Point grids of AMG: where the clicks are made, on the image and on crops of it.

The grids and crops are those of segment-anything's `SamAutomaticMaskGenerator` (`segment_anything.utils.amg`). Layer 0
is the image itself. Layer i has 2^i x 2^i crops, and each crop is encoded as an image of its own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.automatic.image_crops import make_crop_layer
from segserve.automatic.parameters import AmgParams
from segserve.errors import BadInput, TooLarge
from segserve.types import Region, Size

MAX_POINTS = 32_768  # on an image that is not tiled: minutes of decoding on a CPU
MAX_POINTS_OVER_TILES = 65_536  # on a large image: the default grid on 64 tiles
MAX_REGIONS_OVER_TILES = 512  # tiles and crops of a large image: each must be encoded


@dataclass(frozen=True)
class GridRegion:
    """A region of the image, and the number of points along each side of its grid."""

    region: Region
    points_per_side: int


def make_point_grid(grid: GridRegion) -> NDArray[np.float64]:
    """Return the points [side * side, 2] of a grid, row by row, at the centres of equal cells.

    They are (x, y) in pixels of the region.
    """
    side = grid.points_per_side
    centres = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    x, y = np.meshgrid(centres * grid.region.width, centres * grid.region.height)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def plan_grid_regions(size: Size, params: AmgParams) -> list[GridRegion]:
    """Return the image itself, then the crops of each layer, column by column.

    Raises BadInput if a layer has no points; TooLarge if all layers together have too many.
    """
    grids = [GridRegion(Region(0, 0, size.width, size.height), params.points_per_side)]
    points = params.points_per_side**2
    for layer in range(1, params.crop_n_layers + 1):
        side = params.layer_points_per_side(layer)
        if side < 1:
            raise BadInput(
                f"The grid of crop layer {layer} has no points.",
                field="params.crop_n_points_downscale_factor",
                remedy="Take a smaller factor, fewer layers or more points a side.",
            )
        points += 4**layer * side**2
        if points > MAX_POINTS:
            raise TooLarge(
                f"The grids have more than {MAX_POINTS} points.",
                field="params.points_per_side",
                remedy="Take fewer points a side or layers, or crop_n_points_downscale_factor 2.",
            )
        grids += [
            GridRegion(region, side) for region in make_crop_layer(size, layer, params.crop_overlap_ratio)
        ]
    return grids


def check_grid_limits(tiles: list[Size], params: AmgParams) -> None:
    """Raise TooLarge if the grids of all tiles together are too much for one request.

    tiles: the size of each tile.

    Raises also what `plan_grid_regions` raises.
    """
    grids = [grid for tile in tiles for grid in plan_grid_regions(tile, params)]
    points = sum(grid.points_per_side**2 for grid in grids)
    if points > MAX_POINTS_OVER_TILES or len(grids) > MAX_REGIONS_OVER_TILES:
        raise TooLarge(
            f"On {len(tiles)} tiles the grids have {points} points on {len(grids)} crops. One request may have"
            f" up to {MAX_POINTS_OVER_TILES} points and {MAX_REGIONS_OVER_TILES} crops.",
            field="params.points_per_side",
            remedy="Take fewer points a side or crop layers, or send parts of the image.",
        )
