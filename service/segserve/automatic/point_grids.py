"""Where automatic masks are looked for: grids of points on the image and on crops of it.

The grids and crops of segment-anything's `SamAutomaticMaskGenerator` (`segment_anything.utils.amg`): layer i, from 0,
has 2^i x 2^i crops, of which each is encoded as an image of its own; 0 is the image itself.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segserve.errors import BadInput, TooLarge
from segserve.types import Region, Size

MOST_POINTS = 32_768  # of an image in one piece: minutes of decoding on a CPU
MOST_OVER_TILES = 65_536  # of a large image: the default grid on 64 tiles
MOST_PARTS = 512  # of a large image, each encoded


@dataclass(frozen=True)
class AmgParams:
    """Names and defaults of `SamAutomaticMaskGenerator`; `points_per_batch` is not among them, since it does not
    change what is found.

    points_per_side: of the grid. pred_iou_thresh, stability_score_thresh: masks must reach them. A mask's
    stability is the IoU of what lies above its threshold raised by stability_score_offset and above it lowered
    by as much, in logits. box_nms_thresh, crop_nms_thresh: of two masks whose boxes' IoU exceeds it, one stays:
    of the same crop that with the higher predicted IoU, of different crops that of the smaller crop.
    crop_n_layers: layers of crops besides the image itself. crop_overlap_ratio: how far the first layer's crops
    overlap, as a share of the image's shorter side. crop_n_points_downscale_factor: layer i's grid has
    points_per_side / factor^i points a side. min_mask_region_area: pixels; smaller holes and islands go.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0

    def points_of_layer(self, layer: int) -> int:
        """A side of the layer's grid."""
        return int(self.points_per_side / self.crop_n_points_downscale_factor**layer)


@dataclass(frozen=True)
class Part:
    """A part of the image and its grid. points_per_side: of the grid."""

    region: Region
    points_per_side: int


def grid(part: Part) -> NDArray[np.float64]:
    """The points [side * side, 2] as (x, y) in pixels of the part, row by row, at the middle of equal cells."""
    side = part.points_per_side
    at = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side)
    x, y = np.meshgrid(at * part.region.width, at * part.region.height)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def parts(size: Size, params: AmgParams) -> list[Part]:
    """The image itself, then the crops of each layer, column by column. Raises BadInput where a layer has no
    points, TooLarge where all have too many."""
    found = [Part(Region(0, 0, size.width, size.height), params.points_per_side)]
    points = params.points_per_side**2
    for layer in range(1, params.crop_n_layers + 1):
        side = params.points_of_layer(layer)
        if side < 1:
            raise BadInput(
                f"The grid of crop layer {layer} has no points.",
                field="params.crop_n_points_downscale_factor",
                remedy="Take a smaller factor, fewer layers or more points a side.",
            )
        points += 4**layer * side**2
        if points > MOST_POINTS:
            raise TooLarge(
                f"The grids have more than {MOST_POINTS} points.",
                field="params.points_per_side",
                remedy="Take fewer points a side or layers, or crop_n_points_downscale_factor 2.",
            )
        found += [Part(region, side) for region in crops(size, layer, params.crop_overlap_ratio)]
    return found


def check_work(tiles: list[Size], params: AmgParams) -> None:
    """Raises TooLarge where the grids of all tiles together are too much for one request; as `parts` does."""
    looked_at = [part for tile in tiles for part in parts(tile, params)]
    points = sum(part.points_per_side**2 for part in looked_at)
    if points > MOST_OVER_TILES or len(looked_at) > MOST_PARTS:
        raise TooLarge(
            f"On {len(tiles)} tiles the grids have {points} points on {len(looked_at)} crops; up to {MOST_OVER_TILES}"
            f" and {MOST_PARTS} are looked at in one request.",
            field="params.points_per_side",
            remedy="Take fewer points a side or crop layers, or send parts of the image.",
        )


def crops(size: Size, layer: int, overlap_ratio: float) -> list[Region]:
    """A layer's crops, from 1; those of an image too small for them are left out."""
    count = 2**layer
    overlap = int(overlap_ratio * min(size.height, size.width) * (2 / count))
    width, height = (math.ceil((overlap * (count - 1) + side) / count) for side in (size.width, size.height))
    found = []
    for column in range(count):
        for row in range(count):
            x, y = (width - overlap) * column, (height - overlap) * row
            region = Region(x, y, min(width, size.width - x), min(height, size.height - y))
            if region.width > 0 and region.height > 0:
                found.append(region)
    return found
