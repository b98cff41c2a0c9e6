"""A network that sees tiles, run over an image of any size.

Tiles lie on a regular grid, their overlaps evenly spread. Where they overlap, each counts the more the further from
its own edge, in proportion, so that neighbours fade into each other and what a network makes of its border, where it
sees less, hardly counts. Along each axis the weights of all tiles add up to one at every pixel; so no weights are
summed over the image, and a row of tiles is finished, and leaves memory, as soon as the next one begins below it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from segserve.models.bundle import SemanticManifest
from segserve.semantic.preprocess import Prepared
from segserve.types import Float32, Size

Run = Callable[[Float32], Float32]  # [N, C, h, w] -> probabilities [N, K, h, w]


class Flips(StrEnum):
    """How tiles are mirrored; the answers, turned back, are averaged."""

    NONE = "none"
    HORIZONTAL = "horizontal"  # as it is, and left to right
    VERTICAL = "vertical"  # as it is, and top to bottom
    BOTH = "both"  # these four


FLIPPED: dict[Flips, tuple[tuple[int, ...], ...]] = {
    Flips.NONE: ((),),
    Flips.HORIZONTAL: ((), (-1,)),
    Flips.VERTICAL: ((), (-2,)),
    Flips.BOTH: ((), (-1,), (-2,), (-2, -1)),
}


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis: `edge` pixels each from `starts`, with weights [tiles, edge]."""

    starts: list[int]
    edge: int
    weights: Float32


def lay(length: int, tile: int, overlap: float, multiple: int, *, fixed: bool) -> Axis:
    """Tiles over `length` pixels, overlapping by at least `overlap` of their edge. An image that is shorter is one
    tile, no larger than it must be unless `fixed`."""
    edge = tile if fixed else min(tile, math.ceil(length / multiple) * multiple)
    count = number(length, edge, overlap)
    starts = [round(i * (length - edge) / max(1, count - 1)) for i in range(count)] if count > 1 else [0]
    inside = np.minimum(np.arange(edge), np.arange(edge)[::-1]) + 0.5
    total = np.zeros(max(length, edge))
    for start in starts:
        total[start : start + edge] += inside
    weights = np.stack([inside / total[start : start + edge] for start in starts])
    return Axis(starts, edge, weights.astype(np.float32))


def runs_of(
    size: Size, tile: tuple[int, int], overlap: float, manifest: SemanticManifest, flips: Flips
) -> int:
    """How often the network sees a tile."""
    count = len(FLIPPED[flips])
    for length, edge in zip((size.height, size.width), tile, strict=True):
        edge = (
            edge if manifest.fixed else min(edge, math.ceil(length / manifest.multiple) * manifest.multiple)
        )
        count *= number(length, edge, overlap)
    return count


def number(length: int, edge: int, overlap: float) -> int:
    """Of tiles along an axis."""
    return 1 if length <= edge else math.ceil((length - edge) / max(1, int(edge * (1 - overlap)))) + 1


def slide(
    prepared: Prepared,
    run: Run,
    manifest: SemanticManifest,
    *,
    tile: tuple[int, int],
    overlap: float,
    flips: Flips = Flips.NONE,
    at_once: int = 1,
) -> Iterator[tuple[int, Float32]]:
    """The probabilities of the whole image as bands from top to bottom: (first row, [K, rows, W]). A band is valid
    until the next one is asked for. at_once: tiles that are run together."""
    size, fixed, multiple = prepared.size, manifest.fixed, manifest.multiple
    rows = lay(size.height, tile[0], overlap, multiple, fixed=fixed)
    columns = lay(size.width, tile[1], overlap, multiple, fixed=fixed)
    band = np.zeros((len(manifest.classes), rows.edge, max(size.width, columns.edge)), np.float32)
    for index, top in enumerate(rows.starts):
        for first in range(0, len(columns.starts), at_once):
            chosen = range(first, min(first + at_once, len(columns.starts)))
            tiles = [prepared.cut(top, columns.starts[i], rows.edge, columns.edge) for i in chosen]
            for i, answer in zip(chosen, flipped(tiles, run, flips), strict=True):
                weights = rows.weights[index][:, None] * columns.weights[i]
                left = columns.starts[i]
                band[:, :, left : left + columns.edge] += answer * weights
        last = index + 1 == len(rows.starts)
        done = size.height - top if last else rows.starts[index + 1] - top
        yield top, band[:, :done, : size.width]
        if not last:
            band[:, : rows.edge - done] = band[:, done:]
            band[:, rows.edge - done :] = 0


def flipped(tiles: Sequence[Float32], run: Run, flips: Flips) -> Float32:
    """tiles, each [C, h, w] -> their answers [N, K, h, w], averaged over the flips."""
    batch = np.stack(tiles)
    answers = [np.flip(run(np.flip(batch, axes)), axes) if axes else run(batch) for axes in FLIPPED[flips]]
    return answers[0] if len(answers) == 1 else np.mean(answers, axis=0, dtype=np.float32)
