"""Drawn cells that move, touch and divide, as a segmentation finds them: some missed, and some cut in two."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

UInt32 = NDArray[np.uint32]

EDGE_PX = 220
RADIUS_PX = 11.0
GROWTH_FRAMES = 8  # until a daughter is as large as her mother was
PARTING_PX = 2.0  # how far each daughter moves from the other, a frame, while they part
PARTING_FRAMES = 5


@dataclass
class Cell:
    """One cell's true track. centres: (x, y) on each of its frames. radii: in pixels."""

    cell_id: int
    begin: int
    parent: int | None
    direction: NDArray[np.float64]
    centres: list[NDArray[np.float64]] = field(default_factory=list)
    radii: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Movie:
    """truth: label maps of true track ids. found: label maps as a segmentation makes them. parents: of the ids."""

    truth: list[UInt32]
    found: list[UInt32]
    parents: dict[int, int | None]


def draw_movie(
    seed: int,
    *,
    frames: int = 24,
    cells: int = 8,
    divisions: int = 3,
    missed: float = 0.0,
    cut: float = 0.0,
    step_px: float = 1.5,
) -> Movie:
    """Draw a movie.

    missed: the share of the cells that are not found. cut: the share that gets cut, for some frames.
    """
    rng = np.random.default_rng(seed)
    tracks = move_cells(rng, frames, cells, divisions, step_px)
    truth = [draw_frame(tracks, frame) for frame in range(frames)]
    found = disturb(rng, truth, missed, cut)
    return Movie(truth, found, {cell.cell_id: cell.parent for cell in tracks})


def move_cells(
    rng: np.random.Generator, frames: int, count: int, divisions: int, step_px: float
) -> list[Cell]:
    grid = [(x, y) for y in range(35, EDGE_PX - 20, 45) for x in range(35, EDGE_PX - 20, 45)]
    starts = rng.permutation(len(grid))[:count]
    alive = [Cell(i + 1, 0, None, np.zeros(2)) for i in range(count)]
    for cell, start in zip(alive, starts, strict=True):
        cell.centres.append(np.array(grid[start], float))
        cell.radii.append(RADIUS_PX)
    tracks = list(alive)
    dividing = dict(
        zip(
            np.sort(rng.permutation(np.arange(6, frames - 6))[:divisions]).tolist(),
            rng.permutation(count)[:divisions].tolist(),
            strict=False,
        )
    )
    for frame in range(1, frames):
        following = []
        for cell in alive:
            position = cell.centres[-1] + rng.normal(0, step_px, 2)
            age = frame - cell.begin
            if cell.parent is not None and age < PARTING_FRAMES:
                position += cell.direction * PARTING_PX
            position = np.clip(position, RADIUS_PX, EDGE_PX - RADIUS_PX)
            if cell.parent is None and cell.cell_id - 1 == dividing.get(frame):
                angle = rng.uniform(0, np.pi)
                axis = np.array([np.cos(angle), np.sin(angle)])
                small = cell.radii[-1] / np.sqrt(2)
                for sign in (-1, 1):
                    daughter = Cell(len(tracks) + 1, frame, cell.cell_id, sign * axis)
                    daughter.centres.append(position + sign * axis * small)
                    daughter.radii.append(small)
                    tracks.append(daughter)
                    following.append(daughter)
                continue
            cell.centres.append(position)
            small = RADIUS_PX / np.sqrt(2)
            share = min(1.0, age / GROWTH_FRAMES) if cell.parent is not None else 1.0
            cell.radii.append(small + (RADIUS_PX - small) * share)
            following.append(cell)
        alive = following
    return tracks


def draw_frame(tracks: list[Cell], frame: int) -> UInt32:
    """Draw the cells of a frame; where two would overlap, a line between them is their border."""
    rows, columns = np.mgrid[:EDGE_PX, :EDGE_PX]
    labels, nearest = np.zeros((EDGE_PX, EDGE_PX), np.uint32), np.zeros((EDGE_PX, EDGE_PX))
    for cell in tracks:
        age = frame - cell.begin
        if 0 <= age < len(cell.centres):
            x, y = cell.centres[age]
            power = (columns - x) ** 2 + (rows - y) ** 2 - cell.radii[age] ** 2
            mine = power < nearest
            labels[mine], nearest[mine] = cell.cell_id, power[mine]
    return labels


def disturb(rng: np.random.Generator, truth: list[UInt32], missed: float, cut: float) -> list[UInt32]:
    """Return the label maps with cells missed and cut, their objects numbered in random order on each frame."""
    cuts: dict[int, float] = {}  # the cells that are cut, and the angle of the cut
    found = []
    for labels in truth:
        result = np.zeros_like(labels)
        number = 0
        for cell_id in rng.permutation(np.unique(labels[labels > 0])).tolist():
            mask = labels == cell_id
            cuts.pop(cell_id, None) if rng.random() < 0.4 else None
            if cell_id not in cuts and rng.random() < 0.4 * cut:
                cuts[cell_id] = rng.uniform(0, np.pi)
            if rng.random() < missed:
                continue
            number += 1
            result[mask] = number
            if cell_id in cuts:
                y, x = np.nonzero(mask)
                angle = cuts[cell_id]
                side = (x - x.mean()) * np.cos(angle) + (y - y.mean()) * np.sin(angle) > rng.uniform(-2, 2)
                number += 1
                result[y[side], x[side]] = number
        found.append(result)
    return found
