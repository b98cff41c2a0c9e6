"""Drawn cells of a look that the starter was never shown: bright field, where a cell is as grey as the ground and
only its outline, a dark line in a bright halo, tells it from that."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segserve.train.folder import Labelled

SIZE = 256
CELLS = 26
ROOM = 0.02  # part of a cell that others may already have


def outline(rng: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """A closed, gently waved outline around (0, 0), [64, 2]."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    reach = radius * np.ones_like(angle)
    for wave in (2, 3, 4):
        reach *= 1 + rng.uniform(0, 0.28 / wave) * np.cos(wave * angle + rng.uniform(0, 7))
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], -1)


def filled(shape: NDArray[np.float64]) -> NDArray[np.bool_]:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.rint(shape).astype(np.int32)], 1)
    return mask.astype(bool)


def line(mask: NDArray[np.bool_], width: float) -> NDArray[np.float32]:
    """A soft line along the mask's edge, 1 at its middle."""
    values = mask.astype(np.uint8)
    edge = cv2.morphologyEx(values, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
    soft = cv2.GaussianBlur(edge, (0, 0), width)
    return soft / max(float(soft.max()), 1e-6)


def draw_cells(seed: int) -> Labelled:
    """One picture of up to 26 cells; the same for the same seed."""
    rng = np.random.default_rng([seed, 2026])
    labels = np.zeros((SIZE, SIZE), np.int32)
    ground = cv2.resize(rng.normal(0, 1, (5, 5)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    image = 135 + 12 * ground
    for _ in range(4 * CELLS):
        shape = outline(rng, rng.uniform(12, 24)) + rng.uniform(0, SIZE, 2)
        mask = filled(shape)
        if labels.max() >= CELLS or mask.sum() < 100 or (labels[mask] > 0).mean() > ROOM:
            continue
        mask &= labels == 0
        labels[mask] = labels.max() + 1
        image += 45 * line(mask, 3.0) * ~mask - 75 * line(mask, 0.9)
        grain = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32), (0, 0), 1.5)
        image += 25 * grain * mask
    image += rng.normal(0, 4, image.shape)
    grey = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Labelled(f"cells-{seed}", np.repeat(grey[..., None], 3, 2), labels)
