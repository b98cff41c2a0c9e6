"""A synthetic volume of cells that move, grow and vanish, with its ground truth."""

from dataclasses import dataclass

import numpy as np

from segserve.types import UInt8, UInt16


@dataclass(frozen=True)
class Cell:
    """An ellipse at (x, y) of slice 0.

    dx, dy, growth: how far it moves and how much its radius grows from slice to slice, in pixels.
    begin, end: its first and last slice.
    """

    x: float
    y: float
    dx: float
    dy: float
    radius: float
    growth: float
    begin: int
    end: int

    def centre(self, z: int) -> tuple[float, float]:
        return self.x + self.dx * z, self.y + self.dy * z


CELLS = (
    Cell(60, 60, 1.5, 1.0, 14, 0.3, 2, 18),
    Cell(150, 120, -1.0, 0.8, 20, -0.4, 0, 23),
    Cell(190, 40, 0.0, 0.5, 12, 0.2, 6, 23),
)


def draw_volume(
    cells: tuple[Cell, ...] = CELLS, depth: int = 24, height: int = 200, width: int = 240
) -> tuple[UInt8, UInt16]:
    """Return (values, labels from 1), both [Z, Y, X]."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:height, :width]
    values = rng.normal(25, 6, (depth, height, width))
    labels = np.zeros(values.shape, np.uint16)
    for z in range(depth):
        for label, cell in enumerate(cells, 1):
            if cell.begin <= z <= cell.end:
                (x, y), radius = cell.centre(z), cell.radius + cell.growth * z
                inside = ((xx - x) / (1.2 * radius)) ** 2 + ((yy - y) / radius) ** 2 < 1
                labels[z][inside] = label
                values[z][inside] = rng.normal(150, 10, int(inside.sum()))
    return values.clip(0, 255).astype(np.uint8), labels
