"""Random windows of a scene: rotated, mirrored, scaled and recoloured, as augmentation for promptable models."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from segserve.train.scenes import Scene, input_scale
from segserve.types import Float32, Preprocess, UInt8

# Changes the colours of an image [h, w, 3] float32 in 0..255.
Recolour = Callable[[Float32, np.random.Generator], Float32]

SCALE_RANGE = (0.6, 1.7)
MAX_OUTSIDE_PX = 8  # input pixels by which a window may leave the image


def cut_window(
    scene: Scene, size: int, preprocess: Preprocess, recolour: Recolour, rng: np.random.Generator
) -> tuple[Float32, NDArray[np.int32], UInt8]:
    """Cut a random window of the scene, as the model's input would show it.

    size: the window's edge, in input pixels.
    Returns (normalised image [size, size, 3], labels [size, size], distances [size, size, 2]). Outside the scene the
    image is zero, as SAM pads.
    """
    height, width = scene.labels.shape
    scale = input_scale(height, width, preprocess) * np.exp(rng.uniform(*np.log(SCALE_RANGE)))
    angle = rng.integers(0, 4) * np.pi / 2 + (rng.uniform(-0.5, 0.5) if rng.random() < 0.3 else 0)
    mirror = -1 if rng.random() < 0.5 else 1
    linear = (
        np.array([[np.cos(angle) * mirror, -np.sin(angle)], [np.sin(angle) * mirror, np.cos(angle)]]) * scale
    )
    centre = pick_centre(scene, size, scale, rng)
    matrix = np.hstack([linear, (size / 2 - linear @ centre)[:, None]])
    target, source = (size, size), scene.image
    if scale.min() < 0.7:  # the warp samples single pixels: without smoothing, small scales alias
        source = cv2.GaussianBlur(source, (0, 0), 0.4 / scale.min()).astype(np.uint8)
    warped = cv2.warpAffine(source, matrix, target, flags=cv2.INTER_LINEAR).astype(np.float32)
    inside = cv2.warpAffine(np.ones((height, width), np.float32), matrix, target, flags=cv2.INTER_NEAREST)
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    image: Float32 = (recolour(warped, rng) - mean) / std * inside[..., None]
    labels = cv2.warpAffine(scene.labels.astype(np.float32), matrix, target, flags=cv2.INTER_NEAREST)
    maps = cv2.warpAffine(scene.distances, matrix, target, flags=cv2.INTER_NEAREST, borderValue=(255, 255))
    return image, np.rint(labels).astype(np.int32), maps.astype(np.uint8)


def pick_centre(
    scene: Scene, size: int, scale: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the centre (x, y) of a random window, in pixels of the scene. scale: input pixels per pixel, (x, y)."""
    height, width = scene.labels.shape
    ys, xs = np.nonzero(scene.labels)
    if len(ys) and rng.random() < 0.9:  # mostly near an object: empty windows teach little
        pick = rng.integers(len(ys))
        centre = np.array([xs[pick], ys[pick]]) + rng.uniform(-0.4, 0.4, 2) * size / scale
    else:
        centre = rng.uniform((0, 0), (width, height))
    image_size = np.array([width, height])
    min_centre = np.minimum(size / 2 / scale, image_size / 2)
    margin = MAX_OUTSIDE_PX / scale
    return np.asarray(np.clip(centre, min_centre - margin, image_size - min_centre + margin))
