"""Small labelled pictures, drawn: bright discs on a dark ground, no two alike."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.train.dataset_folder import LabelledImage

SIZE = 96


def discs(seed: int, size: int = SIZE, count: int = 5) -> LabelledImage:
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    for index in range(1, count + 1):
        x, y, radius = *rng.uniform(10, size - 10, 2), rng.uniform(7, 12)
        labels[(xs - x) ** 2 + (ys - y) ** 2 < radius**2] = index
    grey = np.where(labels > 0, 180, 40) + rng.normal(0, 8, labels.shape)
    image: NDArray[np.uint8] = np.clip(grey, 0, 255).astype(np.uint8)
    return LabelledImage(f"discs-{seed}", np.repeat(image[..., None], 3, 2), labels)


def folders(root: Path, count: int = 3) -> tuple[Path, Path]:
    """(images, masks) with that many pictures as PNG."""
    images, masks = root / "images", root / "masks"
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for seed in range(count):
        drawn = discs(seed)
        Image.fromarray(drawn.image).save(images / f"{drawn.name}.png")
        Image.fromarray(drawn.mask.astype(np.uint16)).save(masks / f"{drawn.name}.png")
    return images, masks
