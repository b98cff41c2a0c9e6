"""The training images of the built-in models: labelled nuclei and drawn scenes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segserve.train.dataset_folder import LabelledImage
from segserve.train.scenes import Scene, compute_distance_maps, stretch_contrast
from segserve.types import Preprocess

STRETCH_PERCENTILES = (1.0, 99.9)  # mapped to 0 and 255: many fluorescence images are nearly black
STARTER_PREPROCESS = Preprocess(
    input_size=512,
    mean=(123.675, 116.28, 103.53),  # as SAM, so that one preprocessing serves all
    std=(58.395, 57.12, 57.375),
    resize="pad",
    stretch_percentiles=STRETCH_PERCENTILES,
)
# For scenes, whose contrast is stretched already.
SCENE_PREPROCESS = replace(STARTER_PREPROCESS, stretch_percentiles=None)
VALIDATION_SHARE = 0.1


def read_nuclei(folder: Path) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return (training, validation) images, as they are on disk.

    A tenth of the images is held out for validation. Each appearance (kind and size of image) gets its share of them
    in proportion to its number of images. What rounding down leaves over goes to the largest remainders. Within an
    appearance the hash of the id decides.
    """
    index = json.loads((folder / "index.json").read_text())
    appearances: dict[tuple[str, int, int], list[str]] = {}
    for entry in index:
        appearances.setdefault((entry["kind"], *entry["shape"][:2]), []).append(entry["id"])
    shares = {key: VALIDATION_SHARE * len(ids) for key, ids in appearances.items()}
    held_out = {key: int(share) for key, share in shares.items()}
    remaining = round(sum(shares.values())) - sum(held_out.values())
    for key in sorted(appearances, key=lambda key: (-(shares[key] % 1), key))[:remaining]:
        held_out[key] += 1
    training, validation = [], []
    for key, ids in appearances.items():
        ids.sort(key=lambda i: hashlib.sha256(i.encode()).hexdigest())
        for position, name in enumerate(ids):
            path = next((folder / "images").glob(f"{name}.*"))
            image = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            mask = cv2.imread(str(folder / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            labelled = LabelledImage(name, image, mask.astype(np.int32))
            (validation if position < held_out[key] else training).append(labelled)
    return training, validation


def draw_outline(rng: np.random.Generator, radius: float) -> NDArray[np.int32]:
    """Return a closed outline [n, 2] (x, y) around (0, 0): an ellipse, a rod, a wobbly blob or a polygon."""
    kind = rng.choice(["ellipse", "rod", "blob", "polygon"], p=[0.4, 0.15, 0.3, 0.15])
    count = int(rng.integers(3, 8)) if kind == "polygon" else 48
    angle = (
        np.sort(rng.uniform(0, 2 * np.pi, count))
        if kind == "polygon"
        else np.linspace(0, 2 * np.pi, count, endpoint=False)
    )
    reach = np.full(count, radius)
    if kind == "blob":
        for wave in range(2, 6):
            reach = reach * (1 + rng.uniform(0, 0.3 / wave) * np.cos(wave * angle + rng.uniform(0, 7)))
    squeeze = {"ellipse": rng.uniform(0.5, 1), "rod": rng.uniform(0.2, 0.4)}.get(str(kind), 1.0)
    x, y = reach * np.cos(angle), squeeze * reach * np.sin(angle)
    if kind == "rod":  # flat long sides make a stadium, not a thin ellipse
        y = np.clip(y, -0.75 * squeeze * radius, 0.75 * squeeze * radius)
    angle = rng.uniform(0, np.pi)
    return np.stack(
        [x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], -1
    ).astype(np.int32)


def draw_texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Return smooth noise [height, width] of about unit variance, coarse or fine."""
    grain = rng.uniform(1.5, 24)
    small = rng.standard_normal((int(height / grain) + 3, int(width / grain) + 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def draw_scene(seed: int, size: int = 512) -> Scene:
    """Return a scene of textured shapes on textured background. Shapes drawn later cover earlier ones."""
    rng = np.random.default_rng(seed)
    background, tint = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    image = background + rng.uniform(0, 25) * draw_texture(rng, size, size)[..., None]
    labels = np.zeros((size, size), np.int32)
    typical = np.exp(rng.uniform(np.log(7), np.log(70)))
    count = int(np.clip(rng.uniform(0.1, 0.7) * size * size / (3 * typical**2), 3, 250))
    rim, gradient, spread = (
        rng.uniform(-60, 60) * (rng.random() < 0.4),
        rng.uniform(-40, 40),
        rng.uniform(0, 50),
    )
    for index in range(1, count + 1):
        radius = typical * np.exp(rng.normal(0, 0.3))
        shape = draw_outline(rng, radius) + rng.integers(0, size, 2)
        left, top, w, h = cv2.boundingRect(shape)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, size), min(top + h, size)
        if x1 - x0 < 4 or y1 - y0 < 4:
            continue
        local = shape - (x0, y0)
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [local], 1)
        colour = tint + rng.normal(0, spread) + rng.normal(0, spread / 4, 3)
        fill = colour + (rng.uniform(0, 30) * draw_texture(rng, *mask.shape))[..., None]
        fill += (gradient * np.linspace(-1, 1, mask.shape[1], dtype=np.float32))[None, :, None]
        if rim:
            edge = np.zeros_like(mask)
            cv2.polylines(edge, [local], True, 1, thickness=max(1, int(radius / 8)))
            fill += rim * edge[..., None]
        inside = mask.astype(bool)
        image[y0:y1, x0:x1][inside] = fill[inside]
        labels[y0:y1, x0:x1][inside] = index
    image = cv2.GaussianBlur(np.clip(image, 0, 255).astype(np.float32), (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.4:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    image += rng.normal(0, rng.uniform(0, 10), image.shape)
    stretched = stretch_contrast(np.clip(image, 0, 255).astype(np.uint8), STRETCH_PERCENTILES)
    return Scene(f"drawn-{seed}", stretched, labels, compute_distance_maps(labels))


def recolour(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change an image [h, w, 3] float32 in 0..255 as another light, stain or camera would. Strong augmentation."""
    if rng.random() < 0.3:
        image = 255 - image
    if rng.random() < 0.5:
        image = 255 * (image / 255) ** np.exp(rng.normal(0, 0.35)).astype(np.float32)
    if rng.random() < 0.3:
        image = image * rng.uniform(0.6, 1, 3).astype(np.float32) + rng.uniform(-25, 25, 3).astype(np.float32)
    if rng.random() < 0.2:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    if rng.random() < 0.4:
        image = (image - 127) * np.float32(rng.uniform(0.4, 1.2)) + 127 + np.float32(rng.uniform(-30, 30))
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.3:
        image = image + rng.normal(0, rng.uniform(2, 14), image.shape).astype(np.float32)
    return np.clip(image, 0, 255)
