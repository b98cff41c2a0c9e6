"""Small labelled images of bright discs on dark background, drawn the same for the same seed."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.train.dataset_folder import LabelledImage

SIZE = 96


def draw_discs(seed: int, size: int = SIZE, count: int = 5) -> LabelledImage:
    """Return an image of up to `count` discs; discs may hide others."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for index in range(1, count + 1):
        x, y, radius = *rng.uniform(10, size - 10, 2), rng.uniform(7, 12)
        labels[(xs - x) ** 2 + (ys - y) ** 2 < radius**2] = index
    grey = np.where(labels > 0, 180, 40) + rng.normal(0, 8, labels.shape)
    image: NDArray[np.uint8] = np.clip(grey, 0, 255).astype(np.uint8)
    return LabelledImage(f"discs-{seed}", np.repeat(image[..., None], 3, 2), labels)


def write_folders(root: Path, count: int = 3) -> tuple[Path, Path]:
    """Write `count` images and masks as PNG, and return their folders (images, masks)."""
    images, masks = root / "images", root / "masks"
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for seed in range(count):
        labelled = draw_discs(seed)
        Image.fromarray(labelled.image).save(images / f"{labelled.name}.png")
        Image.fromarray(labelled.mask.astype(np.uint16)).save(masks / f"{labelled.name}.png")
    return images, masks
