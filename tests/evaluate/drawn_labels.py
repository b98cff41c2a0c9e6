"""Label maps with the errors that segmentations have, drawn the same for the same seed."""

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint16]


def draw_disc(labels: Labels, y: float, x: float, radius: float, value: int) -> None:
    """Draw a disc of `value` into the map [H, W], in place."""
    rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
    labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = value


def draw_scene(seed: int, size: tuple[int, int] = (160, 200), count: int = 25) -> tuple[Labels, Labels]:
    """Return (truth, prediction): discs, some of which are missed, invented, moved, grown, split or merged."""
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros(size, np.uint16), np.zeros(size, np.uint16)
    for index in range(1, count + 1):
        y, x, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(4, 14)
        fate = rng.choice(["kept", "moved", "grown", "missed", "invented", "split", "merged"])
        if fate != "invented":
            draw_disc(truth, y, x, radius, 3 * index)
        if fate in ("kept", "invented"):
            draw_disc(prediction, y, x, radius, 2 * index)
        if fate == "moved":
            draw_disc(prediction, y + radius / 4, x - radius / 3, radius, 2 * index)
        if fate == "grown":
            draw_disc(prediction, y, x, radius * 1.15, 2 * index)
        if fate == "merged":
            draw_disc(prediction, y, x, radius, 2)
        if fate == "split":
            draw_disc(prediction, y, x, radius, 2 * index)
            prediction[: int(y)][prediction[: int(y)] == 2 * index] = 2 * index + 1
    return truth, prediction


def draw_image(labels: Labels, seed: int = 0) -> NDArray[np.uint8]:
    """Return [H, W, 3]: bright objects on dark noisy background, as in fluorescence images."""
    rng = np.random.default_rng(seed)
    grey = 25 + 170 * (labels > 0) + rng.normal(0, 6, labels.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
