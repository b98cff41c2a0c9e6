"""Random windows of a scene: rotated, mirrored, scaled and recoloured, as augmentation for promptable models."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from segserve.train.scenes import Scene, input_scale
from segserve.types import Float32, Preprocess, UInt8

# Changes the look of an image [h, w, 3] float32 in 0..255 whose objects are the labels [h, w].
Recolour = Callable[[Float32, NDArray[np.int32], np.random.Generator], Float32]
# Chooses what a window of an edge in input pixels shows: a matrix [2, 3] from pixels of the scene to the window's.
View = Callable[[Scene, int, Preprocess, np.random.Generator], NDArray[np.float64]]

SCALE_RANGE = (0.6, 1.7)
MAX_OUTSIDE_PX = 8  # input pixels by which a window may leave the image
MIN_SMOOTHED_SCALE = 2.0  # enlarged more, the pixels of a label map show as steps
MAX_SMOOTHED_LABELS = 255  # OpenCV's median takes bytes


def cut_window(
    scene: Scene,
    size: int,
    preprocess: Preprocess,
    recolour: Recolour,
    view: View,
    rng: np.random.Generator,
) -> tuple[Float32, NDArray[np.int32], UInt8]:
    """Cut a random window of the scene, as the model's input would show it.

    size: the window's edge, in input pixels.
    Returns (normalised image [size, size, 3], labels [size, size], distances [size, size, 2]). Outside the scene the
    image is zero, as SAM pads.
    """
    height, width = scene.labels.shape
    matrix = view(scene, size, preprocess, rng)
    scale = np.linalg.norm(matrix[:, :2], axis=0)
    target, source = (size, size), scene.image
    if scale.min() < 0.7:  # the warp samples single pixels: without smoothing, small scales alias
        source = cv2.GaussianBlur(source, (0, 0), 0.4 / scale.min()).astype(np.uint8)
    warped = cv2.warpAffine(source, matrix, target, flags=cv2.INTER_LINEAR).astype(np.float32)
    inside = cv2.warpAffine(np.ones((height, width), np.float32), matrix, target, flags=cv2.INTER_NEAREST)
    nearest = cv2.warpAffine(scene.labels.astype(np.float32), matrix, target, flags=cv2.INTER_NEAREST)
    labels = smooth_labels(np.rint(nearest).astype(np.int32), float(scale.max()))
    maps = cv2.warpAffine(scene.distances, matrix, target, flags=cv2.INTER_NEAREST, borderValue=(255, 255))
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    image: Float32 = (recolour(warped, labels, rng) - mean) / std * inside[..., None]
    return image, labels, maps.astype(np.uint8)


def random_view(
    scene: Scene, size: int, preprocess: Preprocess, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a view at about the scale at which the model would see the scene. It is a `View`."""
    height, width = scene.labels.shape
    scale = input_scale(height, width, preprocess) * np.exp(rng.uniform(*np.log(SCALE_RANGE)))
    linear = random_turn(rng) * scale
    centre = pick_centre(scene, size, scale, rng)
    return np.hstack([linear, (size / 2 - linear @ centre)[:, None]])


def random_turn(rng: np.random.Generator, *, quarters_only: bool = False) -> NDArray[np.float64]:
    """Return a matrix [2, 2] that turns by quarters, sometimes a little more, and mirrors half the time."""
    angle = rng.integers(0, 4) * np.pi / 2
    if not quarters_only and rng.random() < 0.3:
        angle += rng.uniform(-0.5, 0.5)
    mirror = -1 if rng.random() < 0.5 else 1
    return np.array([[np.cos(angle) * mirror, -np.sin(angle)], [np.sin(angle) * mirror, np.cos(angle)]])


def smooth_labels(labels: NDArray[np.int32], scale: float) -> NDArray[np.int32]:
    """Return labels [h, w] without the steps that enlarging by `scale` has given their outlines."""
    if scale < MIN_SMOOTHED_SCALE:
        return labels
    ids, compact = np.unique(labels, return_inverse=True)
    if len(ids) > MAX_SMOOTHED_LABELS:
        return labels
    smooth = cv2.medianBlur(compact.reshape(labels.shape).astype(np.uint8), 2 * round(scale / 2) + 1)
    smoothed: NDArray[np.int32] = ids[smooth]
    return smoothed


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
