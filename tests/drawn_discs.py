"""Pictures of bright discs on dark noise, for tests and benchmarks that need many different ones."""

import io

import numpy as np
from PIL import Image


def draw_discs(rng: np.random.Generator, edge_px: int) -> bytes:
    """Return a square PNG, another one each time."""
    y, x = np.mgrid[:edge_px, :edge_px]
    values = rng.normal(20, 5, (edge_px, edge_px))
    for _ in range(12):
        (cx, cy), radius = rng.uniform(0, edge_px, 2), rng.uniform(6, 20)
        values += 120 * ((x - cx) ** 2 + (y - cy) ** 2 < radius * radius)
    file = io.BytesIO()
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
