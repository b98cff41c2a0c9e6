"""Drawn clips of objects that move, with their ground truth: they cross, hide behind a bar, and leave the frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from segserve.types import Bool, UInt8

HEIGHT, WIDTH = 160, 240


@dataclass(frozen=True)
class Disc:
    """A disc. place: (x, y) of its centre on a frame. brightness: 0 to 255."""

    place: Callable[[int], tuple[float, float]]
    radius: float
    brightness: float


def draw_clip(
    discs: Sequence[Disc], count: int, bar: tuple[int, int] | None = None
) -> tuple[UInt8, list[list[Bool]]]:
    """Return (frames [T, H, W, 3], for each disc its visible mask on each frame).

    bar: columns of a bar in front of everything.
    """
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    frames = rng.normal(25, 5, (count, HEIGHT, WIDTH))
    truth: list[list[Bool]] = [[] for _ in discs]
    for t in range(count):
        covered = np.zeros((HEIGHT, WIDTH), np.bool_)
        if bar is not None:
            covered[:, bar[0] : bar[1]] = True
        for disc, masks in zip(discs, truth, strict=True):
            x, y = disc.place(t)
            masks.append(((xs - x) ** 2 + (ys - y) ** 2 < disc.radius**2) & ~covered)
            frames[t][masks[-1]] = rng.normal(disc.brightness, 8, int(masks[-1].sum()))
            covered |= masks[-1]  # the first disc is in front
        if bar is not None:
            frames[t][:, bar[0] : bar[1]] = rng.normal(60, 5, (HEIGHT, bar[1] - bar[0]))
    return np.repeat(frames.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3), truth
