"""Where an object went between two frames: first by the embedding's cells, then by the pixels.

    appearance on the last frame -> find_move: cells are compared at every shift of whole cells, the best place is
    refined by template matching in pixels -> the move, in pixels

The embedding knows what an object is and not where its edges are; the pixels know the edges, but not what is inside.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.masks import crop
from segserve.types import Bool, Crop, Float16, Float32, Size, UInt8

# Cells that describe an object at most; of a larger object some are taken, evenly. They are most of the state that a
# job keeps with every chunk: 16 kB.
MAX_CELLS = 32
# What one cell of distance from the expected place costs, in cosine.
DISTANCE_COST = 0.01
# The template is the mask with a margin of this share of the square root of its area: its outline helps to place it.
TEMPLATE_MARGIN = 0.1
# Templates are compared at this size at most, in pixels of a side; a larger one is thinned out.
MAX_TEMPLATE_PX = 64
# How far from the best whole-cell shift pixels are compared, in cells: half a cell, and as much again for cells that
# hold an edge.
FINE_RADIUS = 1.0


@dataclass(frozen=True)
class CellGrid:
    """How an embedding [C, h, w] lies on an image. (cell_x, cell_y): a cell's size in pixels of the image."""

    rows: int
    columns: int
    cell_x: float
    cell_y: float

    @classmethod
    def from_image(cls, size: Size, valid: Size, square: int, grid: int) -> "CellGrid":
        """Return the cells that the image covers.

        valid: the part of the model's square input that the image fills. square: the input's edge. grid: cells of an
        edge.
        """
        cell = square / grid
        rows, columns = (max(1, round(side / cell)) for side in (valid.height, valid.width))
        return cls(rows, columns, size.width / valid.width * cell, size.height / valid.height * cell)


@dataclass(frozen=True)
class Appearance:
    """How an object looked on a frame: all that is needed to find it on another one.

    cells: [K, 2], row and column of the cells that it covers. weights: [K], how much of each.
    directions: [K, C], the embedding's cells, each of length 1.
    patch: [h, w, 3], pixels around it, one of `step` in each direction. inside: [h, w], the template within.
    (x, y): where the patch begins.
    """

    cells: NDArray[np.int16]
    weights: Float16
    directions: Float16
    patch: UInt8
    inside: Bool
    x: int
    y: int
    step: int


@dataclass(frozen=True)
class Move:
    """How far an object moved, in pixels. likeness: the mean cosine of its cells to those where it is now."""

    dx: int
    dy: int
    likeness: float


def describe(pixels: UInt8, field: Float32, grid: CellGrid, mask: Crop) -> Appearance:
    """Return how the object under a mask, which is not empty, looks.

    pixels: the frame, RGB [H, W, 3]. field: see `normalize_cells`.
    """
    cells, weights = cover_cells(mask, grid)
    keep = np.linspace(0, len(cells) - 1, min(len(cells), MAX_CELLS)).round().astype(np.int64)
    cells, weights = cells[keep], weights[keep]
    directions = field[:, cells[:, 0], cells[:, 1]].T
    patch = cut_template(pixels, mask)
    return Appearance(
        cells.astype(np.int16), weights.astype(np.float16), directions.astype(np.float16), *patch
    )


def cover_cells(mask: Crop, grid: CellGrid) -> tuple[NDArray[np.int64], Float32]:
    """Return the cells [K, 2] that a mask covers, as (row, column), and the share of each [K] that it covers."""
    ys, xs = np.nonzero(mask.pixels)
    rows = np.minimum(((ys + mask.y) / grid.cell_y).astype(np.int64), grid.rows - 1)
    columns = np.minimum(((xs + mask.x) / grid.cell_x).astype(np.int64), grid.columns - 1)
    flat, counts = np.unique(rows * grid.columns + columns, return_counts=True)
    cells = np.stack(np.divmod(flat, grid.columns), axis=1)
    weights: Float32 = np.minimum(1, counts / (grid.cell_x * grid.cell_y)).astype(np.float32)
    return cells, weights


def cut_template(pixels: UInt8, mask: Crop) -> tuple[UInt8, Bool, int, int, int]:
    """Return patch, inside, x, y and step of an `Appearance`."""
    margin = max(2, round(TEMPLATE_MARGIN * float(np.sqrt(crop.area(mask)))))
    inside, x0, y0 = crop.cut_window(mask, margin)
    y1, x1 = y0 + inside.shape[0], x0 + inside.shape[1]
    step = -(-max(inside.shape) // MAX_TEMPLATE_PX)
    inside = inside[::step, ::step]
    if not inside.any():  # a thin mask may lie between the pixels that are left
        inside = np.ones_like(inside)
    template = ndimage.distance_transform_edt(~inside) * step <= margin
    return pixels[y0:y1:step, x0:x1:step].copy(), template, x0, y0, step


def find_move(
    before: Appearance,
    pixels: UInt8,
    field: Float32,
    grid: CellGrid,
    expected: tuple[float, float],
    radius: tuple[float, float],
) -> Move:
    """Return how far the object is from where it was.

    pixels, field: of the frame where it is looked for.
    expected: (dx, dy) in pixels, where it should be. radius: (x, y) in pixels, how far from there it may be.
    """
    columns, rows = expected[0] / grid.cell_x, expected[1] / grid.cell_y
    shifts, likeness = compare_cells(
        before, field, grid, (columns, rows), (radius[0] / grid.cell_x, radius[1] / grid.cell_y)
    )
    distances = np.hypot(shifts[:, 0] - rows, shifts[:, 1] - columns)
    best = int((likeness - DISTANCE_COST * distances).argmax())
    row, column = shifts[best].tolist()
    dx, dy = match_template(before, pixels, column * grid.cell_x, row * grid.cell_y, grid)
    return Move(dx, dy, float(likeness[best]))


def compare_cells(
    before: Appearance,
    field: Float32,
    grid: CellGrid,
    expected: tuple[float, float],
    radius: tuple[float, float],
) -> tuple[NDArray[np.int64], Float32]:
    """Return shifts [S, 2] in cells (rows, columns), and the mean cosine [S] of the object's cells there.

    Cells that a shift moves out of the image do not count; a shift that leaves less than half of the object in it is
    no shift.
    """
    spans = [
        np.arange(round(centre - reach), round(centre + reach) + 1)
        for centre, reach in ((expected[1], radius[1]), (expected[0], radius[0]))
    ]
    shifts = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 2)
    places = before.cells.astype(np.int64)[:, None] + shifts[None]  # [K, S, 2]
    limits = np.array([grid.rows, grid.columns])
    visible = ((places >= 0) & (places < limits)).all(axis=-1)
    low = np.clip(places.min(axis=(0, 1)), 0, limits - 1)
    high = np.clip(places.max(axis=(0, 1)), 0, limits - 1) + 1
    window = field[:, low[0] : high[0], low[1] : high[1]]
    cosines = before.directions.astype(np.float32) @ window.reshape(len(window), -1)
    inner = np.clip(places - low, 0, high - low - 1)
    flat = inner[..., 0] * (high[1] - low[1]) + inner[..., 1]
    weights = before.weights.astype(np.float32)[:, None] * visible
    total = weights.sum(axis=0)
    likeness = (np.take_along_axis(cosines, flat, axis=1) * weights).sum(axis=0)
    enough = total >= 0.5 * before.weights.astype(np.float32).sum()
    return shifts, np.where(enough, likeness / np.maximum(total, 1e-6), -1).astype(np.float32)


def match_template(
    before: Appearance, pixels: UInt8, dx: float, dy: float, grid: CellGrid
) -> tuple[int, int]:
    """Return the move in pixels near (dx, dy) where the pixels look most alike: the normalised cross-correlation of
    the template, over all three colours. (dx, dy) itself where the image has no room for the template."""
    step, (height, width) = before.step, before.inside.shape
    reach_x, reach_y = (max(1, round(FINE_RADIUS * cell / step)) for cell in (grid.cell_x, grid.cell_y))
    x, y = round(before.x + dx) - reach_x * step, round(before.y + dy) - reach_y * step
    rows = np.arange(y, y + (height + 2 * reach_y) * step, step)
    columns = np.arange(x, x + (width + 2 * reach_x) * step, step)
    # Beyond its edges the image goes on with its last pixels.
    area = pixels[np.clip(rows, 0, len(pixels) - 1)][:, np.clip(columns, 0, pixels.shape[1] - 1)]
    area = area.astype(np.float32) / 255
    mask, template = before.inside.astype(np.float32), before.patch.astype(np.float32) / 255
    count = float(mask.sum())
    centred = (template - template[before.inside].mean(axis=0)) * mask[..., None]
    products, energy = (np.zeros((2 * reach_y + 1, 2 * reach_x + 1)) for _ in range(2))
    for colour in range(3):
        image = area[..., colour]
        sums = correlate(image, mask)
        products += correlate(image, centred[..., colour])
        energy += np.maximum(correlate(image * image, mask) - sums * sums / count, 0)
    scale = np.sqrt(energy * float((centred * centred).sum()))
    scores = np.where(scale > 1e-6, products / np.maximum(scale, 1e-6), 0)
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return round(dx) + (int(column) - reach_x) * step, round(dy) + (int(row) - reach_y) * step


def correlate(image: NDArray[Any], kernel: NDArray[Any]) -> NDArray[Any]:
    # It imports most of scipy, for a second, which a service that follows nothing need not wait for.
    from scipy import signal

    return np.asarray(signal.correlate(image, kernel, mode="valid", method="fft"))


def move_crop(mask: Crop, dx: int, dy: int) -> Crop:
    """Return the mask moved by whole pixels; what leaves the image is cut off."""
    height, width = mask.pixels.shape
    x, y = mask.x + dx, mask.y + dy
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(mask.size.width, x + width), min(mask.size.height, y + height)
    if x0 >= x1 or y0 >= y1:
        return crop.empty_crop(mask.size)
    return crop.trim_crop(Crop(mask.pixels[y0 - y : y1 - y, x0 - x : x1 - x], x0, y0, mask.size))
