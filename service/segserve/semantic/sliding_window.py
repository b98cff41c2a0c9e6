"""Sliding-window inference: a network that reads tiles, run over an image of any size.

Tiles lie on a regular grid, and their overlaps are evenly spread. Where tiles overlap, the weight of a tile grows in
proportion to the distance from its edge. So neighbours fade into each other, and the border of a tile, where the
network sees less context, hardly counts. Along each axis the weights of all tiles add up to one at every pixel, so no
weights are summed over the image. A row of tiles is finished, and leaves memory, when the next row begins below it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segserve.models.manifest import SemanticManifest
from segserve.semantic.preprocess import NetworkInput
from segserve.semantic.tta import FLIPPED_AXES, Flips, RunNetwork, run_with_flips
from segserve.types import Float32, Size


@dataclass(frozen=True)
class TileAxis:
    """The tiles along one axis of the image.

    starts: the first pixel of each tile.
    edge: pixels of a tile.
    weights: [tiles, edge], the share of each tile in the result.
    """

    starts: list[int]
    edge: int
    weights: Float32


def make_tile_axis(length: int, tile: int, overlap: float, multiple: int, *, fixed: bool) -> TileAxis:
    """Spread tiles over `length` pixels.

    tile: pixels of a tile.
    overlap: share of a tile's edge that neighbours overlap by, at least.
    multiple: a tile's edge is a multiple of this.
    fixed: tiles are never smaller than `tile`. Otherwise an image shorter than `tile` is one tile, no larger than
        `multiple` demands.
    """
    edge = compute_tile_edge(length, tile, multiple, fixed=fixed)
    count = count_tiles(length, edge, overlap)
    starts = [round(i * (length - edge) / max(1, count - 1)) for i in range(count)] if count > 1 else [0]
    distance_to_edge = np.minimum(np.arange(edge), np.arange(edge)[::-1]) + 0.5
    total = np.zeros(max(length, edge))
    for start in starts:
        total[start : start + edge] += distance_to_edge
    weights = np.stack([distance_to_edge / total[start : start + edge] for start in starts])
    return TileAxis(starts, edge, weights.astype(np.float32))


def compute_tile_edge(length: int, tile: int, multiple: int, *, fixed: bool) -> int:
    """Return the edge of the tiles over `length` pixels, as `make_tile_axis` describes it."""
    return tile if fixed else min(tile, math.ceil(length / multiple) * multiple)


def count_tiles(length: int, edge: int, overlap: float) -> int:
    """Return the number of tiles along an axis of `length` pixels."""
    return 1 if length <= edge else math.ceil((length - edge) / max(1, int(edge * (1 - overlap)))) + 1


def count_runs(
    size: Size, tile: tuple[int, int], overlap: float, manifest: SemanticManifest, flips: Flips
) -> int:
    """Return how many tiles the network runs for an image, each flip counted."""
    count = len(FLIPPED_AXES[flips])
    if manifest.whole_image:
        return count
    for length, edge in zip((size.height, size.width), tile, strict=True):
        edge = compute_tile_edge(length, edge, manifest.multiple, fixed=manifest.fixed)
        count *= count_tiles(length, edge, overlap)
    return count


def slide_window(
    network_input: NetworkInput,
    run: RunNetwork,
    manifest: SemanticManifest,
    *,
    tile: tuple[int, int],
    overlap: float,
    flips: Flips = Flips.NONE,
    batch_size: int = 1,
) -> Iterator[tuple[int, Float32]]:
    """Yield the probabilities of the image as bands from top to bottom: (first row, [K, rows, W]).

    A band is valid until the next one is requested.

    tile: height, width.
    overlap: share of a tile's edge, 0 to 1.
    batch_size: tiles that run together.
    """
    size, fixed, multiple = network_input.size, manifest.fixed, manifest.multiple
    rows = make_tile_axis(size.height, tile[0], overlap, multiple, fixed=fixed)
    columns = make_tile_axis(size.width, tile[1], overlap, multiple, fixed=fixed)
    band = np.zeros((len(manifest.classes), rows.edge, max(size.width, columns.edge)), np.float32)
    for index, top in enumerate(rows.starts):
        for first in range(0, len(columns.starts), batch_size):
            batch = range(first, min(first + batch_size, len(columns.starts)))
            tiles = [network_input.read_tile(top, columns.starts[i], rows.edge, columns.edge) for i in batch]
            for i, probabilities in zip(batch, run_with_flips(tiles, run, flips), strict=True):
                weights = rows.weights[index][:, None] * columns.weights[i]
                left = columns.starts[i]
                band[:, :, left : left + columns.edge] += probabilities * weights
        last = index + 1 == len(rows.starts)
        done = size.height - top if last else rows.starts[index + 1] - top
        yield top, band[:, :done, : size.width]
        if not last:
            band[:, : rows.edge - done] = band[:, done:]
            band[:, rows.edge - done :] = 0
