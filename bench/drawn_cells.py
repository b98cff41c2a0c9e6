"""Drawn cells that look unlike everything that the starter was trained on.

They look as under oblique light: grainy, bright on one side and dark on the other. Each has a dark nucleus, which is
not an object.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from segserve.train.dataset_folder import LabelledImage

SIZE = 256
MAX_CELLS = 26
MAX_OVERLAP = 0.02  # share of a new cell that other cells may cover


def draw_outline(rng: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """Return a closed, gently wavy outline [64, 2] (x, y) around (0, 0)."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    reach = radius * np.ones_like(angle)
    for wave in (2, 3, 4):
        reach *= 1 + rng.uniform(0, 0.28 / wave) * np.cos(wave * angle + rng.uniform(0, 7))
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], -1)


def fill_outline(shape: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the mask [SIZE, SIZE] of an outline [n, 2]."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.rint(shape).astype(np.int32)], 1)
    return mask.astype(bool)


def draw_relief(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the brightness, about -1 to 1, of a flat mound in light from the upper left."""
    height = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.6)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) + cv2.Sobel(height, cv2.CV_32F, 0, 1)
    return slope / max(float(np.abs(slope).max()), 1e-6)


def draw_cells(seed: int) -> LabelledImage:
    """Return an image of up to `MAX_CELLS` cells, the same for the same seed."""
    rng = np.random.default_rng([seed, 2026])
    labels = np.zeros((SIZE, SIZE), np.int32)
    background = cv2.resize(
        rng.normal(0, 1, (5, 5)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
    )
    image = 135 + 12 * background
    for _ in range(4 * MAX_CELLS):
        shape = draw_outline(rng, rng.uniform(12, 24)) + rng.uniform(0, SIZE, 2)
        mask = fill_outline(shape)
        if labels.max() >= MAX_CELLS or mask.sum() < 100 or (labels[mask] > 0).mean() > MAX_OVERLAP:
            continue
        mask &= labels == 0
        labels[mask] = labels.max() + 1
        image += 38 * draw_relief(mask)
        grain = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32), (0, 0), 1.2)
        image += 40 * grain * mask
        nucleus = fill_outline(0.35 * (shape - shape.mean(0)) + shape.mean(0) + rng.uniform(-3, 3, 2)) & mask
        image -= 55 * cv2.GaussianBlur(nucleus.astype(np.float32), (0, 0), 1.0)
    image += rng.normal(0, 4, image.shape)
    grey = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return LabelledImage(f"cells-{seed}", np.repeat(grey[..., None], 3, 2), labels)
