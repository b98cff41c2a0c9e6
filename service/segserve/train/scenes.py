"""Labelled images as promptable models see them, and windows cut out of them."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segserve.train.dataset_folder import LabelledImage
from segserve.types import Float32, Preprocess, UInt8

# Changes the colours of an image [h, w, 3] float32 in 0..255
Recolour = Callable[[Float32, np.random.Generator], Float32]

SCALE_RANGE = (0.6, 1.7)
MAX_OUTSIDE_PX = 8  # input pixels by which a window may leave the image


@dataclass(frozen=True)
class Scene:
    """image [h, w, 3] uint8, stretched where the model wants it. labels [h, w] int32, 0 background. distances
    [h, w, 2] uint8: to the object's centre and from its boundary, each 0 at the object's heart, 255 at its edge
    and outside."""

    name: str
    image: UInt8
    labels: NDArray[np.int32]
    distances: UInt8


def stretch_contrast(image: UInt8, percentiles: tuple[float, float]) -> UInt8:
    """Map these percentiles of the image (all channels together) to 0 and 255."""
    low, high = np.percentile(image, percentiles)
    scaled = (image.astype(np.float32) - low) * (255.0 / max(high - low, 1.0))
    stretched: UInt8 = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return stretched


def distance_maps(labels: NDArray[np.int32]) -> UInt8:
    """Per-object distances [h, w, 2] as micro-sam trains on: distance to the centre, and one minus the
    distance to the boundary, both divided by the object's largest."""
    maps = np.full((*labels.shape, 2), 255, np.uint8)
    for index, window in enumerate(ndimage.find_objects(labels), start=1):
        if window is None:
            continue
        mask = labels[window] == index
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        ys, xs = np.nonzero(mask)
        cy, cx = ys.mean(), xs.mean()
        if not mask[round(cy), round(cx)]:
            cy, cx = np.unravel_index(depth.argmax(), depth.shape)
        away = np.hypot(ys - cy, xs - cx)
        inside = np.stack([away / max(away.max(), 1e-6), 1 - depth[ys, xs] / depth.max()], axis=-1)
        maps[window][ys, xs] = np.rint(255 * inside)
    return maps


def build_scene(found: LabelledImage, preprocess: Preprocess) -> Scene:
    """The mask's values are objects, numbered anew from 1."""
    percentiles = preprocess.stretch_percentiles
    image = found.image if percentiles is None else stretch_contrast(found.image, percentiles)
    labels = np.searchsorted(np.unique(np.append(found.mask, 0)), found.mask).astype(np.int32)
    return Scene(found.name, image, labels, distance_maps(labels))


def input_scale(height: int, width: int, preprocess: Preprocess) -> NDArray[np.float64]:
    """Input pixels per image pixel, (x, y)."""
    if preprocess.resize == "pad":
        return np.full(2, preprocess.input_size / max(height, width))
    return preprocess.input_size / np.array([width, height])


def cut_window(
    scene: Scene, size: int, preprocess: Preprocess, recolour: Recolour, rng: np.random.Generator
) -> tuple[Float32, NDArray[np.int32], UInt8]:
    """A random window [size, size] of the scene as it would stand in the model's input, turned, mirrored,
    scaled by 0.6 to 1.7 and recoloured: (normalised image, labels, distances). Outside the scene the image
    is zero, as SAM pads."""
    height, width = scene.labels.shape
    scale = input_scale(height, width, preprocess) * np.exp(rng.uniform(*np.log(SCALE_RANGE)))
    turn = rng.integers(0, 4) * np.pi / 2 + (rng.uniform(-0.5, 0.5) if rng.random() < 0.3 else 0)
    mirror = -1 if rng.random() < 0.5 else 1
    linear = np.array([[np.cos(turn) * mirror, -np.sin(turn)], [np.sin(turn) * mirror, np.cos(turn)]]) * scale
    # Centre the window on a random object most of the time: empty windows teach little.
    ys, xs = np.nonzero(scene.labels)
    if len(ys) and rng.random() < 0.9:
        pick = rng.integers(len(ys))
        centre = np.array([xs[pick], ys[pick]]) + rng.uniform(-0.4, 0.4, 2) * size / scale
    else:
        centre = rng.uniform((0, 0), (width, height))
    extent = np.array([width, height])
    keep = np.minimum(size / 2 / scale, extent / 2)
    centre = np.clip(centre, keep - MAX_OUTSIDE_PX / scale, extent - keep + MAX_OUTSIDE_PX / scale)
    matrix = np.hstack([linear, (size / 2 - linear @ centre)[:, None]])
    target, source = (size, size), scene.image
    if scale.min() < 0.7:  # the warp samples single pixels: smooth first, or small scales alias
        source = cv2.GaussianBlur(source, (0, 0), 0.4 / scale.min()).astype(np.uint8)
    warped = cv2.warpAffine(source, matrix, target, flags=cv2.INTER_LINEAR).astype(np.float32)
    inside = cv2.warpAffine(np.ones((height, width), np.float32), matrix, target, flags=cv2.INTER_NEAREST)
    mean, std = np.array(preprocess.mean, np.float32), np.array(preprocess.std, np.float32)
    image: Float32 = (recolour(warped, rng) - mean) / std * inside[..., None]
    labels = cv2.warpAffine(scene.labels.astype(np.float32), matrix, target, flags=cv2.INTER_NEAREST)
    maps = cv2.warpAffine(scene.distances, matrix, target, flags=cv2.INTER_NEAREST, borderValue=(255, 255))
    return image, np.rint(labels).astype(np.int32), maps.astype(np.uint8)
