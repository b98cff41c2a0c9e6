"""Drawn scenes: textured shapes on textured ground, for objects that the nuclei do not show."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nuclei import STRETCH_PERCENTILES
from segserve.train.scenes import Scene, compute_distance_maps, stretch_contrast

# Radii of shapes, pixels.
MIN_RADIUS, MAX_RADIUS = 5, 140
KINDS = {"ellipse": 0.32, "rod": 0.14, "blob": 0.26, "polygon": 0.14, "filament": 0.07, "ring": 0.07}


def draw_shape(rng: np.random.Generator, radius: float) -> NDArray[np.uint8]:
    """Return the mask [h, w] of a shape of about this radius, cropped to it."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    outline = draw_path(rng, radius) if kind == "filament" else draw_outline(rng, radius, kind)
    thickness = max(2, round(radius * rng.uniform(0.25, 0.6)))
    corner = outline.min(0) - thickness
    mask = np.zeros((outline.max(0) - corner + thickness + 1)[::-1], np.uint8)
    if kind == "filament":
        cv2.polylines(mask, [outline - corner], False, 1, thickness)
    else:
        cv2.fillPoly(mask, [outline - corner], 1)
    if kind == "ring":
        hole = np.rint((outline - outline.mean(0)) * rng.uniform(0.3, 0.65) + outline.mean(0) - corner)
        cv2.fillPoly(mask, [hole.astype(np.int32)], 0)
    return mask


def draw_path(rng: np.random.Generator, radius: float) -> NDArray[np.int32]:
    """Return a curved line [n, 2] (x, y), several radii long."""
    turns = np.cumsum(rng.normal(0, 0.25, 24)) + rng.uniform(0, 2 * np.pi)
    step = radius * rng.uniform(3, 7) / len(turns)
    line = np.cumsum(step * np.stack([np.cos(turns), np.sin(turns)], -1), axis=0)
    return np.rint(line).astype(np.int32)


def draw_outline(rng: np.random.Generator, radius: float, kind: str) -> NDArray[np.int32]:
    """Return a closed outline [n, 2] (x, y) around (0, 0): a blob, a polygon, or else an ellipse."""
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
    squeeze = {"ellipse": rng.uniform(0.5, 1), "rod": rng.uniform(0.2, 0.4)}.get(kind, 1.0)
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
    """Return a scene of textured shapes on textured background. Shapes drawn later cover earlier ones.

    In some scenes shapes touch each other in groups, throw shadows, or are few and large.
    """
    rng = np.random.default_rng(seed)
    background, tint = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
    image = background + rng.uniform(0, 25) * draw_texture(rng, size, size)[..., None]
    labels = np.zeros((size, size), np.int32)
    typical = np.exp(rng.uniform(np.log(MIN_RADIUS), np.log(MAX_RADIUS)))
    count = int(np.clip(rng.uniform(0.1, 0.7) * size * size / (3 * typical**2), 2, 250))
    rim, gradient, spread = (
        rng.uniform(-60, 60) * (rng.random() < 0.4),
        rng.uniform(-40, 40),
        rng.uniform(0, 50),
    )
    shadow = rng.uniform(0.3, 0.8) if rng.random() < 0.2 else 1.0  # the share of light that is left
    group_size = int(rng.integers(2, 9)) if rng.random() < 0.3 else 1
    middle = rng.uniform(0, size, 2)
    for index in range(1, count + 1):
        radius = typical * np.exp(rng.normal(0, 0.3))
        shape = draw_shape(rng, radius)
        angle = rng.uniform(0, 2 * np.pi)
        if index % group_size:
            middle = middle + 1.6 * radius * np.array([np.cos(angle), np.sin(angle)])
        else:
            middle = rng.uniform(0, size, 2)
        left, top = np.rint(middle - np.array(shape.shape[::-1]) / 2).astype(int)
        box = clip_box(left, top, shape, size)
        mask = shape[shift_box(box, left, top)]
        if min(mask.shape) < 4:
            continue
        if shadow < 1:
            darken(image, shape, (left, top), shadow)
        colour = tint + rng.normal(0, spread) + rng.normal(0, spread / 4, 3)
        fill = colour + (rng.uniform(0, 30) * draw_texture(rng, *mask.shape))[..., None]
        fill += (gradient * np.linspace(-1, 1, mask.shape[1], dtype=np.float32))[None, :, None]
        if rim:
            width = 2 * max(1, int(radius / 10)) + 1
            edge = mask - cv2.erode(mask, np.ones((width, width), np.uint8))
            fill += rim * edge[..., None]
        inside = mask.astype(bool)
        image[box][inside] = fill[inside]
        labels[box][inside] = index
    image = cv2.GaussianBlur(np.clip(image, 0, 255).astype(np.float32), (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.4:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    image += rng.normal(0, rng.uniform(0, 10), image.shape)
    stretched = stretch_contrast(np.clip(image, 0, 255).astype(np.uint8), STRETCH_PERCENTILES)
    return Scene(f"drawn-{seed}", stretched, labels, compute_distance_maps(labels))


def darken(
    image: NDArray[np.float32], shape: NDArray[np.uint8], corner: tuple[int, int], light: float
) -> None:
    """Darken an image [h, w, 3], in place, where a shape's soft shadow falls. corner: (x, y) of the shape's mask."""
    offset = max(2, max(shape.shape) // 12)
    soft = cv2.GaussianBlur(np.pad(shape.astype(np.float32), offset), (0, 0), offset / 2)
    left, top = corner  # moved right and down by `offset`, which the padding takes back
    box = clip_box(left, top, soft, image.shape[0])
    image[box] *= (1 - (1 - light) * soft[shift_box(box, left, top)])[..., None]


def clip_box(left: int, top: int, shape: NDArray[Any], size: int) -> tuple[slice, slice]:
    """Return the pixels of an image [size, size] that an array [h, w] covers whose corner lies at (left, top)."""
    ends = (top + shape.shape[0], left + shape.shape[1])
    rows, columns = (
        slice(min(max(start, 0), size), min(max(end, 0), size))
        for start, end in zip((top, left), ends, strict=True)
    )
    return rows, columns


def shift_box(box: tuple[slice, slice], left: int, top: int) -> tuple[slice, slice]:
    """Return the box in pixels of the array whose corner lies at (left, top)."""
    rows, columns = box
    return slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
