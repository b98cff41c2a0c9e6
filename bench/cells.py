"""Drawn cells of a look that the starter was never shown: as under oblique light, grainy, lit on one side and in
shadow on the other, with a dark nucleus in each that is not what is asked for."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segserve.train.dataset_folder import LabelledImage

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


def relief(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Light from the upper left on a flat mound: about -1 to 1."""
    height = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.6)
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) + cv2.Sobel(height, cv2.CV_32F, 0, 1)
    return slope / max(float(np.abs(slope).max()), 1e-6)


def draw_cells(seed: int) -> LabelledImage:
    """One picture of up to 26 cells; the same for the same seed."""
    rng = np.random.default_rng([seed, 2026])
    labels = np.zeros((SIZE, SIZE), np.int32)
    ground = cv2.resize(
        rng.normal(0, 1, (5, 5)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC
    )
    image = 135 + 12 * ground
    for _ in range(4 * CELLS):
        shape = outline(rng, rng.uniform(12, 24)) + rng.uniform(0, SIZE, 2)
        mask = filled(shape)
        if labels.max() >= CELLS or mask.sum() < 100 or (labels[mask] > 0).mean() > ROOM:
            continue
        mask &= labels == 0
        labels[mask] = labels.max() + 1
        image += 38 * relief(mask)
        grain = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)).astype(np.float32), (0, 0), 1.2)
        image += 40 * grain * mask
        nucleus = filled(0.35 * (shape - shape.mean(0)) + shape.mean(0) + rng.uniform(-3, 3, 2)) & mask
        image -= 55 * cv2.GaussianBlur(nucleus.astype(np.float32), (0, 0), 1.0)
    image += rng.normal(0, 4, image.shape)
    grey = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return LabelledImage(f"cells-{seed}", np.repeat(grey[..., None], 3, 2), labels)
