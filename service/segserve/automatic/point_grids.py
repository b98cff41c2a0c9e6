"""Where automatic masks are looked for: grids of points on the image and on crops of it.

The grids and crops of segment-anything's `SamAutomaticMaskGenerator` (`segment_anything.utils.amg`): layer i, from 0,
has 2^i x 2^i crops, of which each is encoded as an image of its own; 0 is the image itself.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.automatic.image_crops import make_crop_layer
from segserve.automatic.parameters import AmgParams
from segserve.errors import BadInput, TooLarge
from segserve.types import Region, Size

MAX_POINTS = 32_768  # of an image in one piece: minutes of decoding on a CPU
MAX_POINTS_OVER_TILES = 65_536  # of a large image: the default grid on 64 tiles
MAX_REGIONS_OVER_TILES = 512  # of a large image, each encoded


@dataclass(frozen=True)
class GridRegion:
    """A part of the image and its grid. points_per_side: of the grid."""

    region: Region
    points_per_side: int


def make_point_grid(part: GridRegion) -> NDArray[np.float64]:
    """The points [side * side, 2] as (x, y) in pixels of the part, row by row, at the middle of equal cells."""
    side = part.points_per_side
    at = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    x, y = np.meshgrid(at * part.region.width, at * part.region.height)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def plan_grid_regions(size: Size, params: AmgParams) -> list[GridRegion]:
    """The image itself, then the crops of each layer, column by column. Raises BadInput where a layer has no
    points, TooLarge where all have too many."""
    found = [GridRegion(Region(0, 0, size.width, size.height), params.points_per_side)]
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
        found += [
            GridRegion(region, side) for region in make_crop_layer(size, layer, params.crop_overlap_ratio)
        ]
    return found


def check_grid_limits(tiles: list[Size], params: AmgParams) -> None:
    """Raises as `plan_grid_regions` does, and TooLarge where the grids of all tiles are too much for one request."""
    looked_at = [part for tile in tiles for part in plan_grid_regions(tile, params)]
    points = sum(part.points_per_side**2 for part in looked_at)
    if points > MAX_POINTS_OVER_TILES or len(looked_at) > MAX_REGIONS_OVER_TILES:
        raise TooLarge(
            f"On {len(tiles)} tiles the grids have {points} points on {len(looked_at)} crops; up to"
            f" {MAX_POINTS_OVER_TILES} and {MAX_REGIONS_OVER_TILES} are looked at in one request.",
            field="params.points_per_side",
            remedy="Take fewer points a side or crop layers, or send parts of the image.",
        )
